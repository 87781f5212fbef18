-- Calls of tools that people have to agree to. An agent run that comes to such a call sets it down as
-- `held`, makes its other calls, and waits without a worker until all that it asked are answered.

-- Ends an attempt that came to such calls, and asks: p_calls says what, whom, for how many seconds
-- (`expires`), and what follows. Gives what muster_finish_all gives: nothing if another attempt has
-- taken over.
CREATE FUNCTION muster_hold_calls(
    p_tenant uuid, p_agent_run uuid, p_attempt integer, p_reason text, p_prompt text, p_system jsonb,
    p_calls json)
RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT * FROM muster_finish_all(
        p_tenant, 'running', ARRAY[p_agent_run], ARRAY[p_attempt], ARRAY['waiting'], ARRAY[p_reason],
        ARRAY[p_prompt], ARRAY[NULL]::json[], ARRAY[NULL]::jsonb[], ARRAY[NULL]::double precision[],
        ARRAY[p_system], ARRAY[NULL]::json[], ARRAY['approval'], ARRAY['']);
    IF NOT FOUND THEN RETURN; END IF;
    WITH opened AS (
        INSERT INTO approval (id, tenant_id, run_id, agent_run_id, step, tool, tool_call_id, question, show,
                              roles, exclude_requester, form_schema, expires_at, on_expire, on_reject, status)
        SELECT uuidv7(), p_tenant, a.run_id, a.id, a.step, t.tool, t.id, k.question, k.show, k.roles,
               k.exclude_requester, k.form, clock_timestamp() + make_interval(secs => k.expires),
               k.on_expire, k.on_reject, 'open'
          FROM json_to_recordset(p_calls) AS k (
                   turn integer, call text, question text, show json, roles text[],
                   exclude_requester boolean, form json, expires double precision, on_expire text,
                   on_reject text)
         CROSS JOIN LATERAL (SELECT x.* FROM agent_run x WHERE x.id = p_agent_run LIMIT 1) a
         CROSS JOIN LATERAL (
               SELECT x.id, x.tool FROM tool_call x
                WHERE x.agent_run_id = p_agent_run AND x.turn = k.turn AND x.call = k.call
                  AND x.attempt > a.forgiven AND x.status = 'held' ORDER BY x.attempt DESC LIMIT 1) t
        RETURNING id, run_id, step, tool, roles, expires_at),
    told AS (
        INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
        SELECT p_tenant, o.run_id, p_agent_run, clock_timestamp(), 'approval.requested',
               jsonb_strip_nulls(jsonb_build_object('step', o.step, 'approval_id', o.id, 'tool', o.tool,
                   'roles', o.roles, 'expires_at', o.expires_at)) FROM opened o)
    UPDATE agent_run SET due_at = (SELECT min(o.expires_at) FROM opened o) WHERE id = p_agent_run;
END $$;

-- Sets down what was decided on a call; its agent is told why it was not made.
CREATE FUNCTION muster_answer_call(p_approval approval, p_decision text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_note text := NULLIF(trim(left(p_approval.form ->> 'note', 2000)), '');
BEGIN
    WITH answered AS (
        UPDATE tool_call t
           SET status = CASE p_decision WHEN 'approve' THEN 'agreed' ELSE 'failed' END,
               error = CASE WHEN p_decision = 'approve' THEN NULL
                            WHEN p_approval.status = 'expired' THEN
                                'This was not called: nobody agreed to it in time.'
                            ELSE 'This was not called: a person has rejected it.'
                                 || COALESCE(' The reason: ' || v_note, '') END,
               ended_at = CASE WHEN p_decision <> 'approve' THEN clock_timestamp() END,
               updated_at = clock_timestamp()
         WHERE t.id = p_approval.tool_call_id AND t.status = 'held'
        RETURNING t.*)
    INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
    SELECT e.tenant_id, e.run_id, e.agent_run_id, clock_timestamp(), 'tool_call.' || e.status,
           jsonb_build_object('attempt', e.attempt, 'turn', e.turn, 'tool', e.tool)
      FROM answered e WHERE e.status = 'failed';
END $$;

-- Has an agent run go on once all is answered that it asked; until then it waits for the others.
CREATE FUNCTION muster_go_on(p_run uuid, p_agent_run uuid) RETURNS SETOF muster_hint
LANGUAGE plpgsql AS $$
DECLARE
    v_open bigint;
    v_next timestamptz;
BEGIN
    SELECT count(*), min(x.expires_at) INTO v_open, v_next
      FROM approval x WHERE x.agent_run_id = p_agent_run AND x.status = 'open';
    UPDATE agent_run SET due_at = CASE WHEN v_open > 0 THEN v_next ELSE clock_timestamp() END
     WHERE id = p_agent_run;
    RETURN QUERY SELECT 'finished', p_run, p_agent_run, NULL::integer;
    IF v_open = 0 THEN
        RETURN QUERY SELECT * FROM muster_hand_out(p_run, ARRAY[p_agent_run]);
    END IF;
END $$;
