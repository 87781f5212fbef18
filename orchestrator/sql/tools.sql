-- What tools were asked by agents that work in turns, kept so that an attempt which takes up the
-- work of another asks for nothing twice.

-- Notes that the calls of a turn begin, and answers for each: it has `begun`; or an earlier attempt
-- has its end (`finished`, `failed`); or it was cut off, and must not be made again (`in_doubt`); or
-- somebody has to agree to it first (`held`). One that was agreed to keeps its row, whose id is
-- `row_id`, and is made once, with the arguments that were shown. One answer without a call: the
-- attempt lost its lease (`lost`), or its run is to end (`stopping`). The same calls, by their ids, may
-- be told again.
CREATE FUNCTION muster_begin_tools(
    p_tenant uuid, p_agent_run uuid, p_attempt integer, p_turn integer, p_calls json)
RETURNS TABLE (call text, verdict text, output json, error text, row_id uuid)
LANGUAGE plpgsql AS $$
DECLARE
    a record;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    -- No join, as in muster_claim_all.
    SELECT x.run_id, x.forgiven,
           (SELECT r.stop_wanted <> '' FROM run r WHERE r.id = x.run_id) AS is_stopping INTO a
      FROM agent_run x
     WHERE x.id = p_agent_run AND x.attempt = p_attempt AND x.status = 'running'
       AND x.lease_until > clock_timestamp() FOR NO KEY UPDATE;
    IF NOT FOUND THEN RETURN QUERY SELECT NULL, 'lost', NULL::json, NULL, NULL::uuid; RETURN; END IF;
    IF a.is_stopping THEN
        RETURN QUERY SELECT NULL, 'stopping', NULL::json, NULL, NULL::uuid; RETURN;
    END IF;
    RETURN QUERY
    WITH known AS MATERIALIZED (
        SELECT k.*, t.id AS before, t.output AS gave, t.error AS told, t.is_held,
               CASE WHEN t.id IS NULL THEN CASE WHEN k.held THEN 'hold' ELSE 'begin' END
                    WHEN t.status IN ('finished', 'failed') THEN t.status::text
                    WHEN t.status IN ('held', 'agreed') THEN
                        CASE WHEN t.arguments::jsonb <> k.arguments::jsonb THEN 'hold'
                             WHEN t.status = 'held' AND k.held THEN 'held' ELSE 'go' END
                    -- Told again: by its id, or, in a row from before, by its attempt.
                    WHEN t.id = k.id OR t.is_held AND t.attempt = p_attempt THEN 'begun'
                    WHEN t.is_held OR NOT k.repeatable THEN 'in_doubt'
                    WHEN k.held THEN 'hold' ELSE 'begin' END AS next
          FROM json_to_recordset(p_calls) AS k (
                   id uuid, call text, tool text, arguments json, repeatable boolean, held boolean)
          LEFT JOIN LATERAL (
               SELECT x.id, x.status, x.attempt, x.arguments, x.output, x.error, x.is_held FROM tool_call x
                WHERE x.agent_run_id = p_agent_run AND x.turn = p_turn AND x.call = k.call
                  AND x.attempt > a.forgiven ORDER BY x.attempt DESC LIMIT 1) t ON true),
    -- What a worker that was given up may still bring in, counts no more.
    doubted AS (
        UPDATE tool_call x SET status = 'in_doubt', ended_at = clock_timestamp()
         WHERE x.id = ANY (ARRAY(SELECT k.before FROM known k WHERE k.next IN ('in_doubt', 'begin', 'hold')))
           AND x.status = 'running'),
    gone AS (
        UPDATE tool_call x SET status = 'running', attempt = p_attempt, updated_at = clock_timestamp()
         WHERE x.id = ANY (ARRAY(SELECT k.before FROM known k WHERE k.next = 'go'))),
    begun AS (
        INSERT INTO tool_call (id, tenant_id, run_id, agent_run_id, attempt, turn, call, tool,
                               arguments, status, is_held)
        SELECT k.id, p_tenant, a.run_id, p_agent_run, p_attempt, p_turn, k.call, k.tool,
               k.arguments, CASE k.next WHEN 'hold' THEN 'held' ELSE 'running' END, k.next = 'hold'
          FROM known k WHERE k.next IN ('begin', 'hold'))
    SELECT k.call, CASE WHEN k.next IN ('begin', 'go') THEN 'begun' WHEN k.next = 'hold' THEN 'held'
                        ELSE k.next END,
           k.gave, k.told, CASE WHEN k.next = 'go' OR k.next = 'begun' AND k.is_held THEN k.before ELSE k.id END
      FROM known k;
END $$;

-- Keeps what came of a call; false if another attempt has taken it over.
CREATE FUNCTION muster_end_tool(
    p_tenant uuid, p_agent_run uuid, p_call uuid, p_status text, p_output json, p_error text)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    -- Whoever takes over has this lock, so it knows of this end or this one of that.
    PERFORM 1 FROM agent_run a WHERE a.id = p_agent_run FOR NO KEY UPDATE;
    WITH ended AS (
        UPDATE tool_call t
           SET status = p_status, output = p_output, error = p_error, ended_at = clock_timestamp()
         WHERE t.id = p_call AND t.status = 'running'
        RETURNING t.*)
    INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
    SELECT p_tenant, e.run_id, e.agent_run_id, clock_timestamp(), 'tool_call.' || e.status,
           jsonb_build_object('attempt', e.attempt, 'turn', e.turn, 'tool', e.tool)
      FROM ended e;
    RETURN FOUND OR EXISTS (SELECT FROM tool_call t WHERE t.id = p_call AND t.status = p_status);
END $$;
