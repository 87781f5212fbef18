-- The ladder of a workflow: how much of its cap a run has used, and which rules have taken effect.
-- What they are, and which of them hold, is for `core.degrade` to say.

-- What is spent and held of a run's own cap, which counts what its sub-workflows spend too; no row while
-- no cap is in force. `told` has the rules that the run's history tells of; `is_asking`: people are asked.
CREATE FUNCTION muster_cap_use(p_tenant uuid, p_run uuid)
RETURNS TABLE (spent_nano bigint, held_nano bigint, limit_nano bigint, told smallint[], is_asking boolean)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    RETURN QUERY
    SELECT COALESCE(p.spent_nano, 0), COALESCE(p.held_nano, 0), COALESCE(p.limit_nano, b.limit_nano),
           r.rungs, r.paused_for = 'ask'
      FROM (SELECT x.rungs, x.paused_for FROM run x WHERE x.id = p_run) r
     CROSS JOIN LATERAL (SELECT y.id, y.limit_nano FROM budget y
                          WHERE y.tenant_id = p_tenant AND y.scope = 'run' AND y.scope_id = p_run
                            AND y.is_enabled LIMIT 1) b
      LEFT JOIN LATERAL (SELECT z.spent_nano, z.held_nano, z.limit_nano FROM budget_period z
                          WHERE z.budget_id = b.id AND z.key = 'total' LIMIT 1) p ON true;
END $$;

-- Has the history of a run tell, once, that a rule of its ladder has taken effect.
CREATE FUNCTION muster_degrade(p_tenant uuid, p_run uuid, p_rung integer, p_facts jsonb)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    UPDATE run SET rungs = rungs || p_rung::smallint, updated_at = clock_timestamp()
     WHERE id = p_run AND p_rung <> ALL (rungs);
    IF NOT FOUND THEN RETURN false; END IF;
    PERFORM muster_event(p_tenant, p_run, NULL, 'run.degraded', p_facts);
    RETURN true;
END $$;

-- Pauses a run until somebody whose role is one of p_roles resumes it: that is the yes, and it is
-- asked once. Without an answer it ends after p_expires seconds. False: it is asked already, or
-- does not go on. p_mails: as of alerts.
CREATE FUNCTION muster_ask_to_go_on(
    p_tenant uuid, p_run uuid, p_rung integer, p_reason text, p_facts jsonb, p_roles text[],
    p_expires double precision, p_mails boolean)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_until timestamptz := clock_timestamp() + make_interval(secs => p_expires);
    v_facts jsonb := p_facts || jsonb_strip_nulls(jsonb_build_object('expires_at', v_until));
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    PERFORM 1 FROM run r
      WHERE r.id = p_run AND r.status = 'running' AND r.stop_wanted = '' AND p_rung <> ALL (r.rungs)
        FOR NO KEY UPDATE;
    IF NOT FOUND THEN RETURN false; END IF;
    PERFORM muster_degrade(p_tenant, p_run, p_rung, v_facts);
    PERFORM muster_pause_run(p_tenant, p_run, p_reason);
    UPDATE run SET paused_for = 'ask', asked_roles = p_roles, answer_due_at = v_until WHERE id = p_run;
    PERFORM muster_tell_of_pause(p_tenant, p_run, 'ask', (p_facts ->> 'used_nano')::bigint, v_facts, p_mails);
    RETURN true;
END $$;

-- Has a run end with what it has, once nobody has answered in time.
CREATE FUNCTION muster_give_up_asking(p_tenant uuid, p_run uuid, p_reason text)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    PERFORM 1 FROM run r
      WHERE r.id = p_run AND r.status = 'paused' AND r.paused_for = 'ask'
        AND r.answer_due_at < clock_timestamp()
        FOR NO KEY UPDATE;
    RETURN FOUND AND muster_stop_run(p_tenant, p_run, 'budget_exceeded', p_reason);
END $$;
