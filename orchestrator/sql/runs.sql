-- Gives new runs all that they consist of, from the frozen plan where it lies: nothing of it
-- travels. Steps in p_without are the caller's to write.
CREATE FUNCTION muster_open_runs(p_runs uuid[], p_without text[])
RETURNS TABLE (id uuid, deadline_at timestamptz, created_at timestamptz) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO run_event (tenant_id, run_id, at, type, data)
    SELECT r.tenant_id, r.id, clock_timestamp(), 'run.created',
           (SELECT jsonb_build_object('workflow', w.name, 'version', v.number)
              FROM workflow_version v, workflow w WHERE v.id = r.version_id AND w.id = r.workflow_id)
      FROM run r WHERE r.id = ANY (p_runs);
    INSERT INTO agent_run (id, tenant_id, run_id, step, position, level, kind, priority, reads,
                           reads_input, agent, uses_model, is_heavy, provider, model, role,
                           timeout_seconds, next_steps, gates, tells)
    SELECT uuidv7(), r.tenant_id, r.id, s.name, s.position, s.level, COALESCE(s.kind, 'agent'),
           -- A run's priority lifts or lowers all its steps; 5 changes nothing.
           LEAST(GREATEST(s.priority + r.priority - 5, 0), 10), s.reads, s.reads_input,
           COALESCE(s.agent, ''), s.uses_model, COALESCE(s.is_heavy, false),
           COALESCE(s.provider, ''), COALESCE(s.model, ''),
           COALESCE(s.role, ''), s.timeout_seconds, COALESCE(s.next_steps, '{}'),
           COALESCE(s.gates, '{}'), COALESCE(s.tells, false)
      FROM run r
     CROSS JOIN LATERAL (SELECT v.plan FROM workflow_version v WHERE v.id = r.version_id LIMIT 1) v
     CROSS JOIN json_to_recordset(v.plan -> 'steps') AS s (
               name text, position int, level int, kind text, priority smallint, reads text[],
               reads_input boolean, agent text, uses_model boolean, is_heavy boolean, provider text,
               model text, role text, timeout_seconds int, next_steps text[], gates int[], tells boolean)
     WHERE r.id = ANY (p_runs) AND s.name <> ALL (p_without);
    INSERT INTO gate (tenant_id, run_id, number, "left", steps, tells)
    SELECT r.tenant_id, r.id, g.number, g.needs, g.steps, g.tells
      FROM run r
     CROSS JOIN LATERAL (SELECT v.plan FROM workflow_version v WHERE v.id = r.version_id LIMIT 1) v
     CROSS JOIN json_to_recordset(v.plan -> 'gates') AS g (
               number int, needs int, steps text[], tells boolean)
     WHERE r.id = ANY (p_runs);
    UPDATE run r
       SET max_cost_nano = w.most, cap_runs = r.cap_runs || CASE WHEN w.most IS NOT NULL THEN r.id END
      FROM run x
     CROSS JOIN LATERAL (SELECT v.plan FROM workflow_version v WHERE v.id = x.version_id LIMIT 1) v
     -- Whoever starts it may ask for less than its workflow allows.
     CROSS JOIN LATERAL (SELECT LEAST(x.max_cost_nano, (v.plan ->> 'max_cost_nano')::bigint) AS most) w
     WHERE r.id = ANY (p_runs) AND x.id = r.id AND w.most IS NOT NULL;
    INSERT INTO budget (id, tenant_id, name, scope, scope_id, agent, "interval", time_zone, limit_nano,
                        is_hard, thresholds, is_enabled, is_operators)
    SELECT uuidv7(), r.tenant_id, 'Cap of this run', 'run', r.id, '', 'total', 'UTC', r.max_cost_nano,
           true, '{}', true, false
      FROM run r WHERE r.id = ANY (p_runs) AND r.max_cost_nano IS NOT NULL;
    RETURN QUERY
    UPDATE run r
       SET updated_at = clock_timestamp(), deadline_seconds = w.seconds, max_alike = w.max_alike,
           deadline_at = clock_timestamp() + make_interval(secs => w.seconds), "window" = w.most
      FROM run x
     CROSS JOIN LATERAL (SELECT v.plan FROM workflow_version v WHERE v.id = x.version_id LIMIT 1) v
     CROSS JOIN LATERAL (
           SELECT COALESCE(x.deadline_seconds, (v.plan ->> 'deadline_seconds')::int) AS seconds,
                  (v.plan ->> 'max_runs')::int AS max_alike,
                  -- Only where more may be due at a time than may run; levels see to themselves,
                  -- but for maps and added steps, which nobody can count beforehand.
                  CASE WHEN (v.plan ->> 'max_parallel')::int < json_array_length(v.plan -> 'steps')
                            AND v.plan ->> 'strategy' = 'adaptive'
                         OR v.plan ->> 'max_parallel' IS NOT NULL AND EXISTS (
                            SELECT FROM json_array_elements(v.plan -> 'steps') s
                             WHERE s ->> 'map' IS NOT NULL OR (s ->> 'adds_steps')::boolean)
                       THEN (v.plan ->> 'max_parallel')::int END AS most) w
     WHERE r.id = ANY (p_runs) AND x.id = r.id
    RETURNING r.id, r.deadline_at, r.created_at;
END $$;

-- Whether a live run is under way, or has its turn before a new one.
CREATE FUNCTION muster_has_turn_before(r run, p_priority smallint, p_run uuid) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT r.parent_agent_run_id IS NULL
       AND (r.status = 'running' OR (r.status = 'paused' AND r.started_at IS NOT NULL)
            OR (r.status = 'pending' AND (-r.priority, r.id) < (-p_priority, p_run)))
$$;

-- Whether a new run may begin: not while as many of its tenant, or of its workflow, are under way as
-- may be, or will be once those have begun that came before it or are more urgent. What waits for
-- others of its own workflow keeps nobody else waiting, and sub-workflows belong to the run above
-- them.
CREATE FUNCTION muster_is_its_turn(p_tenant uuid, p_run uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    me record;
    v_most integer;
BEGIN
    SELECT r.workflow_id, r.max_alike, r.priority, r.parent_agent_run_id INTO me
      FROM run r WHERE r.id = p_run;
    SELECT t.max_runs INTO v_most FROM tenant t WHERE t.id = p_tenant;
    RETURN me.parent_agent_run_id IS NOT NULL OR (
        (v_most IS NULL OR v_most > (
            SELECT count(*) FROM (
                SELECT FROM run r
                 WHERE r.tenant_id = p_tenant AND r.status IN ('pending', 'running', 'paused')
                   AND muster_has_turn_before(r, me.priority, p_run)
                   AND (r.max_alike IS NULL OR r.status <> 'pending' OR r.workflow_id = me.workflow_id)
                 LIMIT v_most) x))
        AND (me.max_alike IS NULL OR me.max_alike > (
            SELECT count(*) FROM (
                SELECT FROM run r
                 WHERE r.tenant_id = p_tenant AND r.status IN ('pending', 'running', 'paused')
                   AND muster_has_turn_before(r, me.priority, p_run) AND r.workflow_id = me.workflow_id
                 LIMIT me.max_alike) x)));
END $$;

-- Lets a new run begin, or has it wait for its turn. Under a lock where turns count, so that two
-- never take the same.
CREATE FUNCTION muster_take_turn(p_tenant uuid, p_run uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT r.max_alike IS NULL FROM run r WHERE r.id = p_run)
       AND (SELECT t.max_runs IS NULL FROM tenant t WHERE t.id = p_tenant) THEN
        RETURN true;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('turns ' || p_tenant, 0));
    IF muster_is_its_turn(p_tenant, p_run) THEN
        UPDATE run SET waits_for_turn = false, status_reason = '' WHERE id = p_run AND waits_for_turn;
        RETURN true;
    END IF;
    UPDATE run SET waits_for_turn = true, advance_wanted = false,
           status_reason = 'It waits for its turn: as many runs are under way as may be'
     WHERE id = p_run;
    RETURN false;
END $$;

-- Asks `advance` for runs of a tenant whose turn has come.
CREATE FUNCTION muster_next_turns(p_tenant uuid) RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
DECLARE
    v_run uuid;
    v_is_bounded boolean;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    -- Of each workflow no more than may be under way: those behind keep no other waiting.
    FOR v_run, v_is_bounded IN
        SELECT x.id, x.max_alike IS NOT NULL
          FROM (SELECT r.id, r.priority, r.max_alike,
                       row_number() OVER (PARTITION BY r.workflow_id ORDER BY r.priority DESC, r.id) AS n
                  FROM run r
                 WHERE r.tenant_id = p_tenant AND r.status = 'pending' AND r.waits_for_turn) x
         WHERE x.max_alike IS NULL OR x.n <= x.max_alike
         ORDER BY x.priority DESC, x.id LIMIT 100 LOOP
        IF NOT muster_is_its_turn(p_tenant, v_run) THEN
            -- What only the tenant's limit holds back holds back all behind it.
            EXIT WHEN NOT v_is_bounded;
        ELSIF muster_want_advance(v_run) THEN
            RETURN QUERY SELECT 'advance', v_run, NULL::uuid, NULL::integer;
        END IF;
    END LOOP;
END $$;

-- The cap of a run is a budget, which people raise like any other.
CREATE FUNCTION muster_cap_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE run SET max_cost_nano = NEW.limit_nano WHERE id = NEW.scope_id AND tenant_id = NEW.tenant_id;
    RETURN NULL;
END $$;
CREATE TRIGGER cap_changed AFTER UPDATE OF limit_nano ON budget
    FOR EACH ROW WHEN (NEW.scope = 'run') EXECUTE FUNCTION muster_cap_changed();
