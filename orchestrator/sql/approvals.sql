-- Questions that steps put to people. Locks are taken as everywhere: the run first, then its agent
-- run, then what follows from it.

-- Has a pending step ask: it waits, without a worker, until somebody decides or p_expires seconds
-- are over.
CREATE FUNCTION muster_open_approval(
    p_tenant uuid, p_run uuid, p_step text, p_question text, p_show json, p_roles text[],
    p_exclude_requester boolean, p_form_schema json, p_expires double precision, p_on_expire text,
    p_on_reject text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_agent_run uuid := muster_start_wait(p_tenant, p_run, p_step, 'approval', p_expires);
    v_opened approval;
BEGIN
    IF v_agent_run IS NULL THEN RETURN; END IF;
    INSERT INTO approval (id, tenant_id, run_id, agent_run_id, step, question, show, roles,
                          exclude_requester, form_schema, expires_at, on_expire, on_reject, status)
    SELECT uuidv7(), p_tenant, p_run, a.id, p_step, p_question, p_show, p_roles,
           p_exclude_requester, p_form_schema, a.due_at, p_on_expire, p_on_reject, 'open'
      FROM agent_run a WHERE a.id = v_agent_run
    RETURNING * INTO v_opened;
    PERFORM muster_event(p_tenant, p_run, v_agent_run, 'approval.requested', jsonb_strip_nulls(
        jsonb_build_object('step', p_step, 'approval_id', v_opened.id, 'roles', p_roles,
                           'expires_at', v_opened.expires_at)));
END $$;

-- Closes an open approval as p_status says (`approved`, `rejected` or `expired`) and ends its step
-- accordingly, or has it go on where the question was one of its calls. Gives what `muster_finish_all`
-- gives: nothing if it was closed already, or its time or its run is over.
CREATE FUNCTION muster_decide_approval(
    p_tenant uuid, p_approval uuid, p_status text, p_by jsonb, p_form json)
RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
DECLARE
    v_agent_run agent_run;
    v_approval approval;
    v_decision text;
    v_ends text;
    v_reason text;
    v_output json;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    PERFORM 1 FROM run r
      WHERE r.id = (SELECT x.run_id FROM approval x WHERE x.id = p_approval) FOR NO KEY UPDATE;
    SELECT a.* INTO v_agent_run FROM agent_run a
     WHERE a.id = (SELECT x.agent_run_id FROM approval x WHERE x.id = p_approval)
       AND a.status = 'waiting' AND a.waiting_for = 'approval'
       AND (SELECT r.stop_wanted = '' FROM run r WHERE r.id = a.run_id)
       FOR NO KEY UPDATE;
    UPDATE approval x
       SET status = p_status, decided_by = p_by, form = p_form, decided_at = clock_timestamp(),
           updated_at = clock_timestamp()
     WHERE x.id = p_approval AND x.agent_run_id = v_agent_run.id AND x.status = 'open'
       AND (p_status = 'expired') = (COALESCE(x.expires_at, 'infinity') <= clock_timestamp())
    RETURNING x.* INTO v_approval;
    IF v_approval.id IS NULL THEN RETURN; END IF;
    v_decision := CASE p_status WHEN 'approved' THEN 'approve' WHEN 'rejected' THEN 'reject'
                       ELSE v_approval.on_expire END;
    v_ends := CASE v_decision WHEN 'approve' THEN 'completed' WHEN 'fail' THEN 'failed'
                   ELSE CASE v_approval.on_reject WHEN 'continue' THEN 'completed'
                             WHEN 'skip' THEN 'skipped' ELSE 'failed' END END;
    v_reason := CASE p_status WHEN 'expired' THEN 'Nobody decided in time'
                     ELSE initcap(p_status) || ' by ' || (p_by ->> 'label')
                          || COALESCE(': ' || NULLIF(left(p_form ->> 'note', 500), ''), '') END;
    v_output := json_build_object('decision', v_decision, 'by', p_by ->> 'label',
        'at', to_char(v_approval.decided_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'form', p_form);
    PERFORM muster_event(p_tenant, v_approval.run_id, v_approval.agent_run_id, 'approval.decided',
        jsonb_build_object('step', v_approval.step, 'approval_id', v_approval.id,
            'status', p_status, 'decision', v_decision, 'by', p_by ->> 'label'));
    IF v_approval.tool_call_id IS NOT NULL THEN
        PERFORM muster_answer_call(v_approval, v_decision);
        IF v_ends = 'completed' THEN
            RETURN QUERY SELECT * FROM muster_go_on(v_approval.run_id, v_agent_run.id);
            RETURN;
        END IF;
    END IF;
    RETURN QUERY SELECT * FROM muster_finish_all(p_tenant, 'waiting',
        ARRAY[v_agent_run.id], ARRAY[v_agent_run.attempt], ARRAY[v_ends], ARRAY[v_reason],
        ARRAY[NULL]::text[], ARRAY[CASE v_ends WHEN 'completed' THEN v_output END],
        ARRAY[CASE v_ends WHEN 'failed' THEN
            jsonb_build_object('code', 'approval_' || p_status, 'message', v_reason) END],
        ARRAY[NULL]::double precision[], ARRAY[NULL]::jsonb[]);
END $$;

-- Closes the open approval of an agent run, once its time is over.
CREATE FUNCTION muster_expire_approval(p_tenant uuid, p_agent_run uuid)
RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    RETURN QUERY SELECT h.* FROM approval x
      CROSS JOIN LATERAL muster_decide_approval(p_tenant, x.id, 'expired', NULL, NULL) h
     WHERE x.agent_run_id = p_agent_run AND x.status = 'open';
END $$;

-- Whatever else ends the wait of a step, such as the end of its run, withdraws its question.
CREATE FUNCTION muster_withdraw_approval() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH withdrawn AS (
        UPDATE approval SET status = 'withdrawn', updated_at = clock_timestamp()
         WHERE agent_run_id = NEW.id AND status = 'open' RETURNING id)
    INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
    SELECT NEW.tenant_id, NEW.run_id, NEW.id, clock_timestamp(), 'approval.withdrawn',
           jsonb_build_object('step', NEW.step, 'approval_id', w.id) FROM withdrawn w;
    RETURN NULL;
END $$;

CREATE TRIGGER withdraw_approval AFTER UPDATE OF status ON agent_run
    FOR EACH ROW WHEN (OLD.status = 'waiting' AND OLD.waiting_for = 'approval'
                       AND NEW.status <> 'waiting')
    EXECUTE FUNCTION muster_withdraw_approval();
