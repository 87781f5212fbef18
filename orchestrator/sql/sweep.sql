-- The sweeper's queries, for the system role: they span tenants. Set-based, in small batches,
-- skipping rows that somebody else works on. They start from the live runs, whose index is small:
-- an index over what is in flight would cost every step its in-page updates.

-- What no message will mend any more: attempts whose lease ran out, which are `late` if their step's
-- time is over, `left` if their worker handed them over, and `lost` if it is gone; `unheard` messages,
-- sent again after 5 s, then after 10, 20, ... up to 160; waits that are `due`, and those that will be
-- `soon`, within p_ahead (`due_in` seconds). `deaths` counts the workers that an agent run has lost.
CREATE FUNCTION muster_sweep_find(p_batch integer, p_ahead interval)
RETURNS TABLE (what text, tenant_id uuid, run_id uuid, version_id uuid, agent_run_id uuid, step text,
               added_by uuid, attempt integer, failures integer, deaths integer, worker text,
               timeout_seconds integer, waiting_for text, due_in double precision, is_stopping boolean)
LANGUAGE sql AS $$
    SELECT CASE x.status WHEN 'queued' THEN 'unheard'
                         WHEN 'waiting' THEN CASE WHEN x.due_at < clock_timestamp() THEN 'due' ELSE 'soon' END ELSE
               CASE WHEN x.attempt_started_at + make_interval(secs => x.timeout_seconds) < clock_timestamp()
                    THEN 'late' WHEN x.lease_until = 'epoch' THEN 'left' ELSE 'lost' END END,
           x.tenant_id, x.run_id, r.version_id, x.id, x.step, x.added_by, x.attempt,
           x.attempt - 1 - x.lost_count - x.spared - x.forgiven, x.lost_count, x.worker, x.timeout_seconds,
           x.waiting_for, extract(epoch FROM x.due_at - clock_timestamp()), r.stop_wanted <> ''
      FROM run r
      -- OFFSET keeps this a look by run: at times the planner would rather read all agent runs.
     CROSS JOIN LATERAL (SELECT * FROM agent_run a WHERE a.run_id = r.id OFFSET 0) x
     WHERE r.status IN ('pending', 'running', 'paused')
       AND CASE x.status
               WHEN 'running' THEN x.lease_until < clock_timestamp()
               WHEN 'queued' THEN r.status = 'running' AND x.published_at < clock_timestamp()
                    - interval '5 seconds' * 2 ^ LEAST(x.publish_count - 1, 5)
               WHEN 'waiting' THEN x.due_at < clock_timestamp() + p_ahead
                    AND (r.status = 'running' OR x.waiting_for = 'approval')
               ELSE false END
     -- Lost work before lost messages, of which there may be many after a broker's loss.
     ORDER BY x.status = 'waiting' AND x.due_at >= clock_timestamp(), x.status = 'queued', x.run_id
     LIMIT p_batch
$$;

-- Marks messages as sent again, each time through a more urgent queue, since theirs may be one that
-- others keep from being looked at. A chord may have counted the first one.
CREATE FUNCTION muster_publish_again(p_agent_runs uuid[])
RETURNS TABLE (tenant_id uuid, run_id uuid, agent_run_id uuid, priority smallint)
LANGUAGE sql AS $$
    UPDATE agent_run a
       SET published_at = clock_timestamp(), publish_count = LEAST(a.publish_count + 1, 100),
           tells = a.tells OR a.in_chord, in_chord = false
     WHERE a.id = ANY (p_agent_runs) AND a.status = 'queued'
    RETURNING a.tenant_id, a.run_id, a.id, LEAST(a.priority + 3 * (a.publish_count - 1), 10)::smallint
$$;

-- Has waits go on whose time has come, or as good as: the next attempt, each in a place of its run.
CREATE FUNCTION muster_wake(p_tenant uuid, p_run uuid, p_agent_runs uuid[])
RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    -- Before its agent runs, as whoever stops it does.
    PERFORM 1 FROM run r WHERE r.id = p_run FOR NO KEY UPDATE;
    RETURN QUERY SELECT * FROM muster_hand_out(p_run, ARRAY(
        SELECT a.id FROM agent_run a WHERE a.id = ANY (p_agent_runs) AND a.status = 'waiting'
           AND a.due_at < clock_timestamp() + interval '50 ms'
         ORDER BY a.id FOR NO KEY UPDATE));
END $$;

-- Live runs that nobody drives: a wish for `advance` that went unanswered, nothing in flight, or
-- a sub-workflow that nobody started, or whose end nobody told.
CREATE FUNCTION muster_sweep_runs(p_batch integer)
RETURNS TABLE (tenant_id uuid, run_id uuid) LANGUAGE sql AS $$
    UPDATE run r SET advance_wanted = true, advance_wanted_at = clock_timestamp()
     WHERE r.id = ANY (ARRAY(
        SELECT x.id FROM run x
         WHERE (x.status IN ('pending', 'running') OR (x.status = 'paused' AND x.stop_wanted <> ''))
           AND COALESCE(x.advance_wanted_at, x.created_at) < clock_timestamp() - interval '5 seconds'
           AND (x.status <> 'pending' OR NOT x.waits_for_turn OR x.stop_wanted <> '')
           AND (x.advance_wanted OR x.stop_wanted <> '' OR NOT EXISTS (
                SELECT FROM agent_run a WHERE a.run_id = x.id
                   AND (a.status IN ('queued', 'waiting') OR a.lease_until IS NOT NULL
                        OR EXISTS (SELECT FROM run c WHERE c.parent_agent_run_id = a.id
                                      AND c.status IN ('pending', 'running', 'paused'))))
                AND NOT EXISTS (
                SELECT FROM ready_agent_run q WHERE q.run_id = x.id AND q.lane = x.tenant_id)
               OR EXISTS (
                SELECT FROM agent_run a WHERE a.run_id = x.id
                   AND a.status = 'running' AND a.kind = 'workflow'
                   AND NOT EXISTS (SELECT FROM run c WHERE c.parent_agent_run_id = a.id
                                      AND c.status IN ('pending', 'running', 'paused'))))
         ORDER BY x.created_at LIMIT p_batch FOR NO KEY UPDATE SKIP LOCKED))
    RETURNING r.tenant_id, r.id
$$;

-- Live runs that have to end: past their deadline, of a suspended tenant, or asking people who have
-- not answered in time.
CREATE FUNCTION muster_sweep_ends(p_batch integer)
RETURNS TABLE (tenant_id uuid, run_id uuid, why text) LANGUAGE sql AS $$
    SELECT x.tenant_id, x.id,
           CASE WHEN t.status = 'suspended' THEN 'suspended'
                WHEN x.deadline_at < clock_timestamp() THEN 'deadline' ELSE 'unanswered' END
      FROM run x JOIN tenant t ON t.id = x.tenant_id
     WHERE x.status IN ('pending', 'running', 'paused') AND x.stop_wanted = ''
       AND (t.status = 'suspended' OR x.deadline_at < clock_timestamp()
            OR (x.status = 'paused' AND x.answer_due_at < clock_timestamp()))
     LIMIT p_batch
$$;
-- The tenants with runs that wait for their turn. Here and below the list of states is the condition
-- of the index over live runs.
CREATE FUNCTION muster_sweep_turns(p_batch integer) RETURNS TABLE (tenant_id uuid) LANGUAGE sql AS $$
    SELECT DISTINCT x.tenant_id FROM run x
     WHERE x.status IN ('pending', 'running', 'paused') AND x.status = 'pending' AND x.waits_for_turn
     LIMIT p_batch
$$;
-- Has paused runs give back the places of what is queued all the same: lost attempts, and what was
-- handed out by who had not seen the pause.
CREATE FUNCTION muster_sweep_paused(p_batch integer)
RETURNS TABLE (tenant_id uuid, run_id uuid) LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT x.tenant_id, x.id FROM run x
              WHERE x.status IN ('pending', 'running', 'paused') AND x.status = 'paused'
                AND (EXISTS (SELECT FROM agent_run a WHERE a.run_id = x.id AND a.status = 'queued')
                     OR EXISTS (SELECT FROM ready_agent_run q WHERE q.run_id = x.id AND q.lane = x.tenant_id))
              ORDER BY x.id LIMIT p_batch FOR NO KEY UPDATE SKIP LOCKED LOOP
        PERFORM muster_call_back(r.tenant_id, r.id);
        RETURN QUERY SELECT r.tenant_id, r.id;
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION muster_sweep_find(integer, interval), muster_publish_again(uuid[]),
    muster_sweep_runs(integer), muster_sweep_ends(integer), muster_sweep_turns(integer),
    muster_sweep_paused(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_sweep_find(integer, interval), muster_publish_again(uuid[]),
    muster_sweep_runs(integer), muster_sweep_ends(integer), muster_sweep_turns(integer),
    muster_sweep_paused(integer) TO muster_system;
