-- A process that runs agents says that it is there, and how many messages it has handled since it said so
-- before: with its worker's rights, and it can do no more. Who says it without that is of the version before.
CREATE FUNCTION muster_here(p_worker text, p_slots integer, p_handled bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    INSERT INTO worker_process AS w (name, slots, handled, started_at, seen_at)
    VALUES (p_worker, p_slots, p_handled, clock_timestamp(), clock_timestamp())
    ON CONFLICT (name) DO UPDATE
       SET slots = excluded.slots, handled = w.handled + excluded.handled, seen_at = excluded.seen_at
$$;
REVOKE EXECUTE ON FUNCTION muster_here(text, integer, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_here(text, integer, bigint) TO muster_app, muster_system;
