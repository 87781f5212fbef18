-- What tools were asked by agents that work in turns, kept so that an attempt which takes up the
-- work of another asks for nothing twice.

-- Notes that the calls of a turn begin, and answers for each: it has `begun`; or an earlier attempt
-- has its end (`finished`, `failed`); or it was cut off, and its tool must not be called again
-- (`in_doubt`). One answer without a call: the attempt lost its lease (`lost`), or its run is to end
-- (`stopping`). The same calls, by their ids, may be told again.
CREATE FUNCTION muster_begin_tools(
    p_tenant uuid, p_agent_run uuid, p_attempt integer, p_turn integer, p_calls json)
RETURNS TABLE (call text, verdict text, output json, error text)
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
    IF NOT FOUND THEN RETURN QUERY SELECT NULL, 'lost', NULL::json, NULL; RETURN; END IF;
    IF a.is_stopping THEN RETURN QUERY SELECT NULL, 'stopping', NULL::json, NULL; RETURN; END IF;
    RETURN QUERY
    WITH known AS MATERIALIZED (
        SELECT k.*, t.id AS before, t.status, t.output AS gave, t.error AS told
          FROM json_to_recordset(p_calls) AS k (
                   id uuid, call text, tool text, arguments json, repeatable boolean)
          LEFT JOIN LATERAL (
               SELECT x.id, x.status, x.output, x.error FROM tool_call x
                WHERE x.agent_run_id = p_agent_run AND x.turn = p_turn AND x.call = k.call
                  AND x.attempt > a.forgiven ORDER BY x.attempt DESC LIMIT 1) t ON true),
    -- What a worker that was given up may still bring in, counts no more.
    doubted AS (
        UPDATE tool_call x SET status = 'in_doubt', ended_at = clock_timestamp()
         WHERE x.id = ANY (ARRAY(SELECT k.before FROM known k WHERE k.before <> k.id))
           AND x.status = 'running'),
    begun AS (
        INSERT INTO tool_call (id, tenant_id, run_id, agent_run_id, attempt, turn, call, tool,
                               arguments, status)
        SELECT k.id, p_tenant, a.run_id, p_agent_run, p_attempt, p_turn, k.call, k.tool,
               k.arguments, 'running'
          FROM known k
         WHERE k.before IS NULL
            OR k.before <> k.id AND k.status IN ('running', 'in_doubt') AND k.repeatable)
    SELECT k.call, CASE WHEN k.before IS NULL OR k.before = k.id THEN 'begun'
                        WHEN k.status IN ('finished', 'failed') THEN k.status::text
                        WHEN k.repeatable THEN 'begun' ELSE 'in_doubt' END,
           k.gave, k.told
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
