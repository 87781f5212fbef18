-- What is spent how fast, for the system role: all tenants at once, in statements of a few
-- milliseconds. The ids of ledger lines begin with their time, so the last minute is a range of them;
-- custom plans, since only one that knows where it begins can know how short it is.

-- What runs have spent within p_window, those that they started included, of the tenants that have
-- spent p_floor at least. A person's yes to a run's spend holds for p_yes.
CREATE FUNCTION muster_spending(p_window interval, p_floor bigint, p_yes interval)
RETURNS TABLE (tenant_id uuid, run_id uuid, workflow_id uuid, spent bigint, is_going boolean, is_judged boolean)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    v_from uuid := uuidv7(-p_window);
BEGIN
    RETURN QUERY
    WITH RECURSIVE recent AS MATERIALIZED (
        SELECT x.tenant_id, x.run_id, x.spent
          FROM (SELECT e.tenant_id, e.run_id, sum(e.amount_nano) AS spent,
                       sum(sum(e.amount_nano)) OVER (PARTITION BY e.tenant_id) AS of_tenant
                  FROM cost_entry e
                 WHERE e.id > v_from
                   -- Batches are charged all at once for what was asked over a long time.
                   AND NOT (e.held_at < e.at - interval '30 seconds' AND EXISTS (
                       SELECT FROM llm_call l WHERE l.id = e.call_id AND l.batch_id IS NOT NULL))
                 GROUP BY e.tenant_id, e.run_id) x
         WHERE x.of_tenant >= p_floor),
    above AS (
        SELECT x.spent, r.id, r.parent_agent_run_id FROM recent x
         -- LIMIT keeps these looks by key: the planner knows nothing of how few there are.
         CROSS JOIN LATERAL (SELECT * FROM run WHERE id = x.run_id LIMIT 1) r
         UNION ALL
        SELECT b.spent, r.id, r.parent_agent_run_id FROM above b
         CROSS JOIN LATERAL (SELECT p.id, p.parent_agent_run_id FROM agent_run a JOIN run p ON p.id = a.run_id
                              WHERE a.id = b.parent_agent_run_id LIMIT 1) r)
    SELECT r.tenant_id, r.id, r.workflow_id, t.spent::bigint, r.status = 'running' AND r.stop_wanted = '',
           r.paused_for = '' AND (r.spend_agreed_at IS NULL OR r.spend_agreed_at < clock_timestamp() - p_yes)
      FROM (SELECT b.id, sum(b.spent) AS spent FROM above b WHERE b.parent_agent_run_id IS NULL GROUP BY b.id) t
     CROSS JOIN LATERAL (SELECT * FROM run WHERE id = t.id LIMIT 1) r;
END $$;

-- What each of a workflow's newest p_most ended runs has spent in its busiest minute, by the clock.
CREATE FUNCTION muster_busiest_minutes(p_tenant uuid, p_workflow uuid, p_most integer)
RETURNS TABLE (spent bigint) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE ended AS MATERIALIZED (
        SELECT r.id FROM run r
         WHERE r.tenant_id = p_tenant AND r.workflow_id = p_workflow AND r.parent_agent_run_id IS NULL
           AND r.status IN ('completed', 'partially_completed') AND r.replay_of_id IS NULL
         ORDER BY r.id DESC LIMIT p_most),
    family AS (
        SELECT e.id AS top, e.id FROM ended e
         UNION ALL
        SELECT f.top, c.id FROM family f
         CROSS JOIN LATERAL (SELECT r.id FROM agent_run a JOIN run r ON r.parent_agent_run_id = a.id
                              WHERE a.run_id = f.id AND a.kind = 'workflow' OFFSET 0) c)
    SELECT COALESCE(max(m.spent), 0)::bigint
      FROM ended e
      LEFT JOIN (SELECT f.top, sum(l.spent) AS spent FROM family f
                  CROSS JOIN LATERAL (
                        SELECT date_trunc('minute', c.at) AS minute, sum(c.amount_nano) AS spent FROM cost_entry c
                         WHERE c.tenant_id = p_tenant AND c.run_id = f.id GROUP BY 1) l
                  GROUP BY f.top, l.minute) m ON m.top = e.id
     GROUP BY e.id;
END $$;

-- Writes down what each tenant has spent in the minute before this one, once, and forgets what is
-- older than p_kept.
CREATE FUNCTION muster_keep_minute(p_kept interval) RETURNS bigint LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_to timestamptz := date_trunc('minute', clock_timestamp());
    v_from timestamptz := v_to - interval '1 minute';
    v_first uuid := uuidv7(v_from - clock_timestamp());
    v_tenants uuid[];
BEGIN
    WITH kept AS (
        INSERT INTO spend_minute (tenant_id, minute, spent_nano)
        SELECT e.tenant_id, v_from, sum(e.amount_nano) FROM cost_entry e
         WHERE e.id > v_first AND e.at >= v_from AND e.at < v_to
         GROUP BY e.tenant_id HAVING sum(e.amount_nano) > 0
        ON CONFLICT DO NOTHING RETURNING tenant_id)
    SELECT array_agg(k.tenant_id) INTO v_tenants FROM kept k;
    DELETE FROM spend_minute m WHERE m.tenant_id = ANY (v_tenants) AND m.minute < v_from - p_kept;
    RETURN COALESCE(cardinality(v_tenants), 0);
END $$;

-- The median of a tenant's minutes with spend, and how many those were. What has only just been spent
-- is not usual yet.
CREATE FUNCTION muster_median_minute(p_tenant uuid, OUT minutes bigint, OUT spent bigint)
LANGUAGE sql STABLE AS $$
    SELECT count(*), percentile_disc(0.5) WITHIN GROUP (ORDER BY m.spent_nano) FROM spend_minute m
     WHERE m.tenant_id = p_tenant AND m.minute < clock_timestamp() - interval '1 hour'
$$;

REVOKE EXECUTE ON FUNCTION muster_spending(interval, bigint, interval),
    muster_busiest_minutes(uuid, uuid, integer), muster_keep_minute(interval),
    muster_median_minute(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_spending(interval, bigint, interval),
    muster_busiest_minutes(uuid, uuid, integer), muster_keep_minute(interval),
    muster_median_minute(uuid) TO muster_system;

-- Pauses a run for what it spends, until a person resumes or cancels it, and tells of it. False: it
-- does not go on any more, or a person has agreed since it was looked at. p_mails: as of alerts.
CREATE FUNCTION muster_pause_for_spend(
    p_tenant uuid, p_run uuid, p_reason text, p_facts jsonb, p_yes interval, p_mails boolean)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    PERFORM 1 FROM run r
      WHERE r.id = p_run AND r.status = 'running' AND r.stop_wanted = ''
        AND (r.spend_agreed_at IS NULL OR r.spend_agreed_at < clock_timestamp() - p_yes)
        FOR NO KEY UPDATE;
    IF NOT FOUND OR NOT muster_pause_run(p_tenant, p_run, p_reason) THEN RETURN false; END IF;
    UPDATE run SET paused_for = 'spend' WHERE id = p_run;
    PERFORM muster_event(p_tenant, p_run, NULL, 'run.spends_fast', p_facts);
    PERFORM muster_tell_of_pause(p_tenant, p_run, 'velocity', (p_facts ->> 'spent_nano')::bigint, p_facts, p_mails);
    RETURN true;
END $$;
