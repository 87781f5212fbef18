-- How the tenants share the workers. Their windows are worked out by `core.fairness` from what is
-- gathered here; the engine keeps to them in the statements that hand out and finish steps.

-- A process that runs agents says that it is there, with its worker's rights: it can do no more.
CREATE FUNCTION muster_here(p_worker text, p_slots integer) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    INSERT INTO worker_process (name, slots, started_at, seen_at)
    VALUES (p_worker, p_slots, clock_timestamp(), clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET slots = excluded.slots, seen_at = excluded.seen_at
$$;

-- The slots of the workers that are there, and the window of tenants without a share.
CREATE FUNCTION muster_cluster() RETURNS TABLE (slots bigint, "window" integer) LANGUAGE sql AS $$
    SELECT (SELECT COALESCE(sum(p.slots), 0) FROM worker_process p
             WHERE p.seen_at > clock_timestamp() - interval '15 seconds'),
           (SELECT c."window" FROM cluster_load c)
$$;

-- For each tenant what it has in flight and has ended, how many more agent runs wait (counted up
-- to p_most), and its share.
CREATE FUNCTION muster_loads(p_most integer)
RETURNS TABLE (tenant_id uuid, weight smallint, in_flight bigint, ended bigint, waiting bigint,
               "window" integer)
LANGUAGE sql AS $$
    WITH held AS (
        SELECT l.tenant_id, sum(l.in_flight)::bigint AS in_flight, sum(l.ended)::bigint AS ended
          FROM tenant_load l GROUP BY l.tenant_id)
    SELECT t.id, t.weight, h.in_flight, h.ended, w.waiting, s."window"
      FROM held h JOIN tenant t ON t.id = h.tenant_id
      LEFT JOIN tenant_share s ON s.tenant_id = h.tenant_id
     CROSS JOIN LATERAL (
           SELECT count(*) AS waiting
             FROM (SELECT FROM ready_agent_run q WHERE q.lane = h.tenant_id LIMIT p_most) x) w
$$;

-- Deals out windows: those of p_tenants, and the one of all others.
CREATE FUNCTION muster_share_out(p_tenants uuid[], p_windows integer[], p_newcomers integer)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO cluster_load (id, "window") VALUES (1, p_newcomers)
    ON CONFLICT (id) DO UPDATE SET "window" = excluded."window"
     WHERE cluster_load."window" <> excluded."window";
    DELETE FROM tenant_share WHERE tenant_id <> ALL (p_tenants);
    INSERT INTO tenant_share (tenant_id, "window")
    SELECT * FROM unnest(p_tenants, p_windows)
    ON CONFLICT (tenant_id) DO UPDATE SET "window" = excluded."window"
     WHERE tenant_share."window" <> excluded."window";
    DELETE FROM worker_process WHERE seen_at < clock_timestamp() - interval '1 day';
$$;

-- What waits in the lanes of tenants becomes more urgent by one for every p_seconds, so that
-- nothing waits for ever behind what is more urgent.
CREATE FUNCTION muster_age_waiting(p_tenants uuid[], p_seconds integer) RETURNS void LANGUAGE sql AS $$
    UPDATE ready_agent_run q
       SET urgency = q.urgency - 1, position = q.position + p_seconds * 1000
     -- Those that nobody takes just now, so that it waits for no one and few wait for it.
     WHERE q.ctid = ANY (ARRAY(
        SELECT w.ctid FROM ready_agent_run w
         WHERE w.lane = ANY (p_tenants) AND w.urgency > -1000
           AND w.position < extract(epoch FROM clock_timestamp())::bigint * 1000 - p_seconds * 1000
         LIMIT 2000 FOR UPDATE SKIP LOCKED))
$$;

-- Counts what is in flight anew, in one snapshot with what was counted, and folds the counts of
-- connections that are gone into one. Gives the tenants whose counts were wrong, and by how much.
CREATE FUNCTION muster_mend_loads() RETURNS TABLE (tenant_id uuid, wrong_by bigint) LANGUAGE plpgsql AS $$
BEGIN
    -- Two at once would both put right what is wrong.
    IF NOT pg_try_advisory_xact_lock(hashtextextended('loads', 0)) THEN RETURN; END IF;
    WITH gone AS (
        DELETE FROM tenant_load l
         WHERE l.connection <> 0
           AND NOT EXISTS (SELECT FROM pg_stat_activity s WHERE s.pid = l.connection)
        RETURNING l.tenant_id, l.in_flight, l.ended)
    INSERT INTO tenant_load AS l (tenant_id, connection, in_flight, ended)
    SELECT g.tenant_id, 0, sum(g.in_flight), sum(g.ended) FROM gone g GROUP BY g.tenant_id
    ON CONFLICT ON CONSTRAINT tenant_load_pkey DO UPDATE
       SET in_flight = l.in_flight + excluded.in_flight, ended = l.ended + excluded.ended;
    RETURN QUERY
    WITH held AS (
        SELECT r.tenant_id, count(*) AS n
          FROM run r CROSS JOIN LATERAL (SELECT * FROM agent_run x WHERE x.run_id = r.id OFFSET 0) a
         WHERE r.status IN ('pending', 'running', 'paused')
           AND (a.status = 'queued' OR a.lease_until IS NOT NULL)
         GROUP BY r.tenant_id),
    counted AS (
        SELECT l.tenant_id, sum(l.in_flight) AS n FROM tenant_load l GROUP BY l.tenant_id),
    wrong AS (
        SELECT c.tenant_id, (c.n - COALESCE(h.n, 0))::bigint AS by
          FROM counted c LEFT JOIN held h ON h.tenant_id = c.tenant_id
         WHERE c.n <> COALESCE(h.n, 0)),
    mended AS (
        INSERT INTO tenant_load AS l (tenant_id, connection, in_flight, ended)
        SELECT w.tenant_id, 0, -w.by, 0 FROM wrong w
        ON CONFLICT ON CONSTRAINT tenant_load_pkey DO UPDATE
           SET in_flight = l.in_flight + excluded.in_flight)
    SELECT w.tenant_id, w.by FROM wrong w;
END $$;
REVOKE EXECUTE ON FUNCTION muster_here(text, integer), muster_cluster(), muster_loads(integer),
    muster_share_out(uuid[], integer[], integer), muster_age_waiting(uuid[], integer),
    muster_mend_loads() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_here(text, integer) TO muster_app, muster_system;
GRANT EXECUTE ON FUNCTION muster_cluster(), muster_loads(integer),
    muster_share_out(uuid[], integer[], integer), muster_age_waiting(uuid[], integer),
    muster_mend_loads() TO muster_system;
