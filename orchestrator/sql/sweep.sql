-- The sweeper's queries, for the system role: they span tenants. Set-based, in small batches,
-- skipping rows that somebody else works on. They start from the live runs, whose index is small:
-- an index over what is in flight would cost every step its in-page updates.

-- Agent runs whose worker is gone: their attempt is closed as lost, its open calls are charged
-- as in doubt, and they are queued again; after p_max_lost lost attempts they fail.
CREATE FUNCTION muster_sweep_leases(p_max_lost integer, p_batch integer)
RETURNS TABLE (tenant_id uuid, run_id uuid, agent_run_id uuid, priority smallint, status text, advance boolean)
LANGUAGE plpgsql AS $$
DECLARE
    a agent_run;
    v_status text;
    v_error jsonb;
BEGIN
    FOR a IN SELECT x.* FROM run r JOIN agent_run x ON x.run_id = r.id
              WHERE r.status IN ('pending', 'running')
                AND x.status = 'running' AND x.lease_until < clock_timestamp()
              LIMIT p_batch FOR NO KEY UPDATE OF x SKIP LOCKED
    LOOP
        PERFORM muster_doubt_calls(a.id, a.attempt);
        v_error := jsonb_build_object('code', 'worker_lost', 'message',
            format('Worker %s stopped renewing its lease.', a.worker));
        v_status := CASE WHEN a.lost_count + 1 >= p_max_lost THEN 'failed' ELSE 'queued' END;
        INSERT INTO attempt (id, tenant_id, agent_run_id, number, worker, outcome, error, started_at, finished_at)
        VALUES (uuidv7(), a.tenant_id, a.id, a.attempt, a.worker, 'lost', v_error, a.attempt_started_at, clock_timestamp());
        UPDATE agent_run x
           SET status = v_status, lost_count = x.lost_count + 1, lease_until = NULL, in_chord = false,
               error = CASE WHEN v_status = 'failed' THEN v_error END,
               finished_at = CASE WHEN v_status = 'failed' THEN clock_timestamp() END,
               queued_at = clock_timestamp(), published_at = clock_timestamp(), publish_count = 1
         WHERE x.id = a.id;
        IF a.uses_model THEN PERFORM muster_sum_calls(a.id); END IF;
        IF a.windowed AND v_status = 'failed' THEN
            UPDATE run r SET level_left = r.level_left - 1 WHERE r.id = a.run_id;
        END IF;
        PERFORM muster_event(a.tenant_id, a.run_id, a.id,
            CASE v_status WHEN 'failed' THEN 'agent.failed' ELSE 'agent.recovered' END,
            jsonb_build_object('step', a.step, 'attempt', a.attempt, 'error', v_error));
        RETURN QUERY SELECT a.tenant_id, a.run_id, a.id, a.priority, v_status,
            v_status = 'failed' AND muster_want_advance(a.run_id);
    END LOOP;
END $$;

-- Messages that seem lost: published again after 10 s, then after 20, 40, ... up to 160.
CREATE FUNCTION muster_sweep_messages(p_batch integer)
RETURNS TABLE (tenant_id uuid, run_id uuid, agent_run_id uuid, priority smallint)
LANGUAGE sql AS $$
    UPDATE agent_run a
       SET published_at = clock_timestamp(), publish_count = LEAST(a.publish_count + 1, 100), in_chord = false
     WHERE a.id = ANY (ARRAY(SELECT x.id FROM run r JOIN agent_run x ON x.run_id = r.id
                     WHERE r.status IN ('pending', 'running') AND x.status = 'queued'
                       AND x.published_at < clock_timestamp()
                           - interval '10 seconds' * 2 ^ LEAST(x.publish_count - 1, 4)
                     LIMIT p_batch FOR NO KEY UPDATE OF x SKIP LOCKED))
    RETURNING a.tenant_id, a.run_id, a.id, a.priority
$$;

-- Live runs that nobody drives: a wish for `advance` that went unanswered, or nothing in flight.
CREATE FUNCTION muster_sweep_runs(p_batch integer)
RETURNS TABLE (tenant_id uuid, run_id uuid) LANGUAGE sql AS $$
    UPDATE run r SET advance_wanted = true, advance_wanted_at = clock_timestamp()
     WHERE r.id = ANY (ARRAY(
        SELECT x.id FROM run x
         WHERE x.status IN ('pending', 'running')
           AND COALESCE(x.advance_wanted_at, x.created_at) < clock_timestamp() - interval '5 seconds'
           AND (x.advance_wanted OR NOT EXISTS (
                SELECT FROM agent_run a WHERE a.run_id = x.id
                   AND a.status IN ('queued', 'running', 'waiting')))
         ORDER BY x.created_at LIMIT p_batch FOR NO KEY UPDATE SKIP LOCKED))
    RETURNING r.tenant_id, r.id
$$;
REVOKE EXECUTE ON FUNCTION muster_sweep_leases(integer, integer), muster_sweep_messages(integer),
    muster_sweep_runs(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_sweep_leases(integer, integer), muster_sweep_messages(integer),
    muster_sweep_runs(integer) TO muster_system;
