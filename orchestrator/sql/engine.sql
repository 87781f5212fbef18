-- The engine's hot path: one function, one round trip, one short transaction each. Every
-- function that takes p_tenant opens the tenant's scope itself, so row-level security holds.
-- Times are the database's: workers' clocks differ.

CREATE FUNCTION muster_event(p_tenant uuid, p_run uuid, p_agent_run uuid, p_type text, p_data jsonb)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
    VALUES (p_tenant, p_run, p_agent_run, clock_timestamp(), p_type, p_data)
$$;

-- Takes a queued agent run for a worker: one winner, next attempt, a lease. Brings all that
-- the attempt needs; no row means that a duplicate delivery lost, or that the run stopped.
CREATE FUNCTION muster_claim(p_tenant uuid, p_agent_run uuid, p_worker text, p_lease interval)
RETURNS TABLE (run_id uuid, version_id uuid, step text, attempt integer, input json,
               outputs json, replies jsonb, environment_credentials boolean)
LANGUAGE plpgsql AS $$
DECLARE
    a agent_run;
    r run;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    UPDATE agent_run ar
       SET status = 'running', attempt = ar.attempt + 1, worker = p_worker,
           lease_until = clock_timestamp() + p_lease, attempt_started_at = clock_timestamp(),
           started_at = COALESCE(ar.started_at, clock_timestamp())
      FROM run
     WHERE ar.id = p_agent_run AND ar.status = 'queued'
       AND run.id = ar.run_id AND run.status = 'running'
    RETURNING ar.* INTO a;
    IF NOT FOUND THEN RETURN; END IF;
    SELECT * INTO r FROM run WHERE id = a.run_id;
    PERFORM muster_event(p_tenant, a.run_id, a.id, 'agent.running',
        jsonb_build_object('step', a.step, 'attempt', a.attempt, 'worker', p_worker));
    RETURN QUERY SELECT a.run_id, r.version_id, a.step::text, a.attempt,
        CASE WHEN a.reads_input THEN r.input END,
        CASE WHEN a.reads <> '{}' THEN
            (SELECT json_object_agg(o.step, o.output) FROM agent_run o
              WHERE o.run_id = a.run_id AND o.step = ANY (a.reads)) END,
        CASE WHEN a.attempt > 1 THEN
            (SELECT jsonb_object_agg(c.turn, c.reply) FROM llm_call c
              WHERE c.agent_run_id = a.id AND c.status = 'closed') END,
        t.uses_environment_credentials
        FROM tenant t WHERE t.id = p_tenant;
END $$;

-- Claims for several threads of a worker in one round trip, in the order of ids, as all locks are.
CREATE FUNCTION muster_claim_all(p_tenant uuid, p_agent_runs uuid[], p_worker text, p_lease interval)
RETURNS TABLE (agent_run_id uuid, run_id uuid, version_id uuid, step text, attempt integer,
               input json, outputs json, replies jsonb, environment_credentials boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_id uuid;
BEGIN
    FOR v_id IN SELECT DISTINCT unnest(p_agent_runs) ORDER BY 1 LOOP
        RETURN QUERY SELECT v_id, c.* FROM muster_claim(p_tenant, v_id, p_worker, p_lease) c;
    END LOOP;
END $$;

-- Records a call before it is sent. False: the attempt lost its lease and must not send.
CREATE FUNCTION muster_open_call(
    p_tenant uuid, p_agent_run uuid, p_attempt integer, p_call uuid, p_turn integer,
    p_provider text, p_model text, p_role text, p_request jsonb, p_hold bigint, p_prices jsonb)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_run uuid;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    SELECT run_id INTO v_run FROM agent_run
     WHERE id = p_agent_run AND attempt = p_attempt AND status = 'running'
       AND lease_until > clock_timestamp()
       FOR NO KEY UPDATE;
    IF NOT FOUND THEN RETURN false; END IF;
    INSERT INTO llm_call (id, tenant_id, run_id, agent_run_id, attempt, turn, status, provider,
                          model, role, request, hold_nano, unit_prices)
    VALUES (p_call, p_tenant, v_run, p_agent_run, p_attempt, p_turn, 'open', p_provider,
            p_model, p_role, p_request, p_hold, p_prices)
    -- The same call again, after a connection broke between its commit and the answer.
    ON CONFLICT (id) DO NOTHING;
    RETURN true;
END $$;

-- Writes the ledger line of a call. An answer to a call in doubt corrects what was charged.
CREATE FUNCTION muster_charge(c llm_call, p_kind text, p_amount bigint)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO cost_entry (id, tenant_id, at, kind, amount_nano, estimated, call_id, project_id,
        workflow_id, workflow_name, run_id, agent_run_id, attempt, step, agent, role, provider,
        model, input_tokens, output_tokens, cached_tokens, cache_write_tokens,
        reasoning_tokens, unit_prices)
    SELECT uuidv7(), c.tenant_id, clock_timestamp(), p_kind, p_amount, c.estimated, c.id,
           r.project_id, r.workflow_id, w.name, c.run_id, c.agent_run_id, c.attempt, a.step,
           a.agent, c.role, c.provider, COALESCE(NULLIF(c.answered_model, ''), c.model),
           c.input_tokens, c.output_tokens, c.cached_tokens, c.cache_write_tokens,
           c.reasoning_tokens, c.unit_prices
      FROM agent_run a JOIN run r ON r.id = a.run_id JOIN workflow w ON w.id = r.workflow_id
     WHERE a.id = c.agent_run_id
    ON CONFLICT DO NOTHING
$$;

-- Ends a call and charges it, both or neither. Compare-and-swap by call id, not fenced: what a
-- late attempt really paid is always recorded. False: it was ended before, or its run is gone.
CREATE FUNCTION muster_end_call(
    p_tenant uuid, p_call uuid, p_status text, p_cost bigint, p_reply jsonb, p_error jsonb,
    p_answered_model text, p_input bigint, p_output bigint, p_cached bigint,
    p_cache_write bigint, p_reasoning bigint, p_estimated boolean)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    was llm_call;
    c llm_call;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    SELECT * INTO was FROM llm_call WHERE id = p_call FOR NO KEY UPDATE;
    IF NOT FOUND THEN RETURN false; END IF;
    IF was.status = 'in_doubt' AND p_status <> 'closed' OR was.status NOT IN ('open', 'in_doubt') THEN
        RETURN false;
    END IF;
    UPDATE llm_call
       SET status = p_status, cost_nano = p_cost, reply = p_reply, error = p_error,
           answered_model = p_answered_model, input_tokens = p_input, output_tokens = p_output,
           cached_tokens = p_cached, cache_write_tokens = p_cache_write,
           reasoning_tokens = p_reasoning, estimated = p_estimated, ended_at = clock_timestamp(),
           updated_at = clock_timestamp()
     WHERE id = p_call RETURNING * INTO c;
    PERFORM muster_charge(c,
        CASE WHEN was.status = 'in_doubt' THEN 'correction' WHEN p_status = 'closed' THEN 'call' ELSE p_status END,
        CASE WHEN was.status = 'in_doubt' THEN p_cost - was.cost_nano ELSE p_cost END);
    PERFORM muster_event(p_tenant, c.run_id, c.agent_run_id, 'llm_call.' || p_status,
        jsonb_build_object('attempt', c.attempt, 'turn', c.turn, 'provider', c.provider,
            'model', c.model, 'input_tokens', c.input_tokens, 'output_tokens', c.output_tokens,
            'cost_nano', c.cost_nano));
    IF was.status = 'in_doubt' THEN
        -- Its agent run has been summed up already.
        UPDATE agent_run SET cost_nano = cost_nano + p_cost - was.cost_nano WHERE id = c.agent_run_id AND finished_at IS NOT NULL;
        UPDATE run SET cost_nano = cost_nano + p_cost - was.cost_nano WHERE id = c.run_id AND finished_at IS NOT NULL;
    END IF;
    RETURN true;
END $$;

-- Charges the calls that an attempt left open: whether they were answered is not known.
CREATE FUNCTION muster_doubt_calls(p_agent_run uuid, p_attempt integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    c llm_call;
BEGIN
    FOR c IN UPDATE llm_call l
                SET status = 'in_doubt', cost_nano = l.hold_nano, ended_at = clock_timestamp()
              WHERE l.agent_run_id = p_agent_run AND l.attempt <= p_attempt AND l.status = 'open'
             RETURNING l.*
    LOOP
        PERFORM muster_charge(c, 'in_doubt', c.hold_nano);
        PERFORM muster_event(c.tenant_id, c.run_id, c.agent_run_id, 'llm_call.in_doubt',
            jsonb_build_object('attempt', c.attempt, 'turn', c.turn, 'provider', c.provider,
                'model', c.model, 'cost_nano', c.cost_nano));
    END LOOP;
END $$;

-- Publishes `advance` at most once until it has begun: true for the one who must publish.
CREATE FUNCTION muster_want_advance(p_run uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE run SET advance_wanted = true, advance_wanted_at = clock_timestamp()
     WHERE id = p_run AND NOT advance_wanted AND status IN ('pending', 'running');
    RETURN FOUND;
END $$;

-- Ends an attempt with its outcome. `finished` is false for an attempt that lost its fence;
-- `next_agent_run` takes the freed place of a level wider than its window; `advance` asks the
-- caller to publish the hint, where no chord will.
CREATE FUNCTION muster_finish(
    p_tenant uuid, p_agent_run uuid, p_attempt integer, p_status text, p_reason text,
    p_prompt text, p_output json, p_error jsonb)
RETURNS TABLE (finished boolean, next_agent_run uuid, next_priority smallint, advance boolean)
LANGUAGE plpgsql AS $$
DECLARE
    a agent_run;
    v_next agent_run;
    v_left integer;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    UPDATE agent_run ar
       SET status = p_status, status_reason = p_reason, prompt = p_prompt, output = p_output,
           error = p_error, lease_until = NULL, finished_at = clock_timestamp(),
           updated_at = clock_timestamp()
     WHERE ar.id = p_agent_run AND ar.attempt = p_attempt AND ar.status = 'running'
    RETURNING ar.* INTO a;
    IF NOT FOUND THEN
        RETURN QUERY SELECT false, NULL::uuid, NULL::smallint, false;
        RETURN;
    END IF;
    IF a.uses_model THEN
        PERFORM muster_doubt_calls(a.id, a.attempt);
        a := muster_sum_calls(a.id);
    END IF;
    INSERT INTO attempt (id, tenant_id, agent_run_id, number, worker, outcome, error, started_at, finished_at)
    VALUES (uuidv7(), p_tenant, a.id, a.attempt, a.worker, p_status, p_error, a.attempt_started_at, a.finished_at);
    PERFORM muster_event(p_tenant, a.run_id, a.id, 'agent.' || p_status,
        jsonb_strip_nulls(jsonb_build_object('step', a.step, 'attempt', a.attempt,
            'cost_nano', a.cost_nano, 'error', p_error)));
    IF NOT a.windowed THEN
        RETURN QUERY SELECT true, NULL::uuid, NULL::smallint,
            NOT a.in_chord AND muster_want_advance(a.run_id);
        RETURN;
    END IF;
    -- The counter is the barrier of a windowed level; its row lock lets one finisher be last.
    UPDATE run r SET level_left = r.level_left - 1 WHERE r.id = a.run_id RETURNING r.level_left INTO v_left;
    -- A failed step hands its place on through advance, which knows the failure policy.
    IF p_status = 'completed' THEN
        SELECT * INTO v_next FROM muster_queue_ready(a.run_id, 1);
    END IF;
    RETURN QUERY SELECT true, v_next.id, v_next.priority,
        (v_left <= 0 OR p_status <> 'completed') AND muster_want_advance(a.run_id);
END $$;

-- Outcomes of several threads of a worker in one transaction, in the order in which all take
-- their locks: by run, then by id.
CREATE FUNCTION muster_finish_all(
    p_tenant uuid, p_agent_runs uuid[], p_attempts integer[], p_statuses text[],
    p_reasons text[], p_prompts text[], p_outputs json[], p_errors jsonb[])
RETURNS TABLE (agent_run_id uuid, attempt integer, finished boolean, next_agent_run uuid,
               next_priority smallint, advance boolean)
LANGUAGE plpgsql AS $$
DECLARE
    g record;
BEGIN
    FOR g IN SELECT * FROM unnest(p_agent_runs, p_attempts, p_statuses, p_reasons, p_prompts,
                                  p_outputs, p_errors)
                      AS x (id, attempt, status, reason, prompt, output, error)
              ORDER BY (SELECT o.run_id FROM agent_run o WHERE o.id = x.id), x.id, x.attempt
    LOOP
        RETURN QUERY SELECT g.id, g.attempt, f.*
          FROM muster_finish(p_tenant, g.id, g.attempt, g.status, g.reason, g.prompt, g.output, g.error) f;
    END LOOP;
END $$;

-- Totals of an agent run from its calls, those of lost attempts included.
CREATE FUNCTION muster_sum_calls(p_agent_run uuid) RETURNS agent_run LANGUAGE sql AS $$
    UPDATE agent_run ar
       SET llm_calls = s.calls, input_tokens = s.input, output_tokens = s.output,
           cached_tokens = s.cached, reasoning_tokens = s.reasoning, cost_nano = s.cost,
           provider = COALESCE(s.provider, ar.provider), model = COALESCE(s.model, ar.model)
      FROM (SELECT count(*) AS calls, COALESCE(sum(c.input_tokens), 0) AS input,
                   COALESCE(sum(c.output_tokens), 0) AS output, COALESCE(sum(c.cached_tokens), 0) AS cached,
                   COALESCE(sum(c.reasoning_tokens), 0) AS reasoning, COALESCE(sum(c.cost_nano), 0) AS cost,
                   (array_agg(c.provider ORDER BY c.created_at DESC))[1] AS provider,
                   (array_agg(COALESCE(NULLIF(c.answered_model, ''), c.model) ORDER BY c.created_at DESC))[1] AS model
              FROM llm_call c WHERE c.agent_run_id = p_agent_run) s
     WHERE ar.id = p_agent_run
    RETURNING ar.*
$$;

-- Moves the most urgent ready agent runs of a windowed level to queued, as many as have room.
-- The array keeps the planner from running the limited query more than once.
CREATE FUNCTION muster_queue_ready(p_run uuid, p_room bigint) RETURNS SETOF agent_run
LANGUAGE sql AS $$
    WITH moved AS (
        UPDATE agent_run SET status = 'queued', queued_at = clock_timestamp(),
               published_at = clock_timestamp(), publish_count = 1
         WHERE id = ANY (ARRAY(
                SELECT id FROM agent_run WHERE run_id = p_run AND status = 'ready'
                 ORDER BY priority DESC, position LIMIT p_room FOR NO KEY UPDATE SKIP LOCKED))
        RETURNING *),
    told AS (
        INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
        SELECT tenant_id, run_id, id, clock_timestamp(), 'agent.queued',
               jsonb_build_object('step', step) FROM moved)
    SELECT * FROM moved ORDER BY priority DESC, position
$$;

-- Fills the window of a windowed level up again: places that no finishing step handed on.
CREATE FUNCTION muster_top_up(p_tenant uuid, p_run uuid, p_window integer)
RETURNS TABLE (agent_run_id uuid, priority smallint) LANGUAGE plpgsql AS $$
DECLARE
    v_busy bigint;
BEGIN
    SELECT count(*) INTO v_busy FROM agent_run a
     WHERE a.run_id = p_run AND a.status IN ('queued', 'running', 'waiting');
    RETURN QUERY SELECT q.id, q.priority FROM muster_queue_ready(p_run, GREATEST(p_window - v_busy, 0)) q;
END $$;

-- Opens the run's lock for `advance`: starts a pending run, clears the wish before anything is
-- read, and tells how far each level is.
CREATE FUNCTION muster_begin_advance(p_tenant uuid, p_run uuid)
RETURNS TABLE (status text, version_id uuid, unsettled jsonb, settled_badly jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    r run;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    SELECT * INTO r FROM run WHERE id = p_run FOR NO KEY UPDATE;
    IF r.status NOT IN ('pending', 'running') THEN RETURN; END IF;
    UPDATE run SET advance_wanted = false, status = 'running',
           started_at = COALESCE(run.started_at, clock_timestamp()), updated_at = clock_timestamp()
     WHERE id = p_run;
    IF r.status = 'pending' THEN
        PERFORM muster_event(p_tenant, p_run, NULL, 'run.started', '{}');
    END IF;
    RETURN QUERY SELECT 'running'::text, r.version_id,
        (SELECT jsonb_object_agg(l.level, l.states) FROM (
            SELECT g.level, jsonb_object_agg(g.status, g.n) AS states FROM (
                SELECT a.level, a.status, count(*) AS n FROM agent_run a
                 WHERE a.run_id = p_run AND a.status NOT IN
                       ('completed', 'failed', 'skipped', 'cancelled', 'budget_exceeded')
                 GROUP BY a.level, a.status) g GROUP BY g.level) l),
        (SELECT jsonb_object_agg(a.step, a.status) FROM agent_run a
          WHERE a.run_id = p_run AND a.status IN ('failed', 'skipped', 'cancelled', 'budget_exceeded'));
END $$;

-- Skips steps that cannot run any more, each with its reason.
CREATE FUNCTION muster_skip_steps(p_tenant uuid, p_run uuid, p_steps text[], p_reasons text[])
RETURNS void LANGUAGE sql AS $$
    WITH skipped AS (
        UPDATE agent_run a SET status = 'skipped', status_reason = s.reason,
               finished_at = clock_timestamp(), updated_at = clock_timestamp()
          FROM unnest(p_steps, p_reasons) AS s (step, reason)
         WHERE a.run_id = p_run AND a.step = s.step AND a.status IN ('pending', 'ready')
        RETURNING a.id, a.step, s.reason)
    INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
    SELECT p_tenant, p_run, id, clock_timestamp(), 'agent.skipped',
           jsonb_build_object('step', step, 'reason', reason) FROM skipped
$$;

-- Calls back what no worker has begun; gives the number of agent runs still at work.
CREATE FUNCTION muster_stop_steps(p_tenant uuid, p_run uuid, p_reason text)
RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    WITH stopped AS (
        UPDATE agent_run a SET status = 'cancelled', status_reason = p_reason,
               finished_at = clock_timestamp(), updated_at = clock_timestamp()
         WHERE a.run_id = p_run AND a.status IN ('pending', 'ready', 'queued', 'waiting')
        RETURNING a.id, a.step)
    INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
    SELECT p_tenant, p_run, id, clock_timestamp(), 'agent.cancelled',
           jsonb_build_object('step', step, 'reason', p_reason) FROM stopped;
    -- A statement of its own: it has to see the claims that the update above waited for.
    RETURN (SELECT count(*) FROM agent_run WHERE run_id = p_run AND status = 'running');
END $$;

-- Makes a level's pending agent runs ready and queues as many as the window lets through, the
-- most urgent first. `windowed` tells whether some had to wait.
CREATE FUNCTION muster_queue_level(p_tenant uuid, p_run uuid, p_level integer, p_window integer)
RETURNS TABLE (agent_run_id uuid, priority smallint, windowed boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_count integer;
BEGIN
    SELECT count(*) INTO v_count FROM agent_run a
     WHERE a.run_id = p_run AND a.level = p_level AND a.status = 'pending';
    UPDATE run SET level_left = CASE WHEN v_count > p_window THEN v_count END WHERE id = p_run;
    RETURN QUERY
    WITH ranked AS (
        SELECT a.id, row_number() OVER (ORDER BY a.priority DESC, a.position) AS rank
          FROM agent_run a WHERE a.run_id = p_run AND a.level = p_level AND a.status = 'pending'),
    moved AS (
        UPDATE agent_run a
           SET status = CASE WHEN k.rank <= p_window THEN 'queued' ELSE 'ready' END,
               queued_at = CASE WHEN k.rank <= p_window THEN clock_timestamp() END,
               published_at = CASE WHEN k.rank <= p_window THEN clock_timestamp() END,
               publish_count = CASE WHEN k.rank <= p_window THEN 1 ELSE 0 END,
               windowed = v_count > p_window, in_chord = v_count <= p_window
          FROM ranked k WHERE a.id = k.id
        RETURNING a.id, a.step, a.priority, a.status, k.rank),
    told AS (
        INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
        SELECT p_tenant, p_run, m.id, clock_timestamp(), 'agent.queued', jsonb_build_object('step', m.step)
          FROM moved m WHERE m.status = 'queued')
    SELECT m.id, m.priority, v_count > p_window FROM moved m WHERE m.status = 'queued' ORDER BY m.rank;
END $$;

-- Ends a run whose steps are all settled: its cost is summed up.
CREATE FUNCTION muster_finish_run(p_tenant uuid, p_run uuid, p_status text, p_reason text, p_output json)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_cost bigint;
BEGIN
    SELECT COALESCE(sum(cost_nano), 0) INTO v_cost FROM agent_run WHERE run_id = p_run;
    UPDATE run SET status = p_status, status_reason = p_reason, output = p_output, cost_nano = v_cost,
           level_left = NULL, finished_at = clock_timestamp(), updated_at = clock_timestamp()
     WHERE id = p_run AND status = 'running';
    PERFORM muster_event(p_tenant, p_run, NULL, 'run.' || p_status,
        jsonb_build_object('reason', p_reason, 'cost_nano', v_cost));
END $$;

-- Renews the leases that a worker process holds, across tenants, hence with its owner's rights;
-- it can do no more than move the lease of an attempt whose number the caller knows.
CREATE FUNCTION muster_renew_leases(p_worker text, p_agent_runs uuid[], p_attempts integer[], p_lease interval)
RETURNS SETOF uuid LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    UPDATE agent_run a SET lease_until = clock_timestamp() + p_lease
      FROM unnest(p_agent_runs, p_attempts) AS held (id, attempt)
     WHERE a.id = held.id AND a.attempt = held.attempt AND a.worker = p_worker AND a.status = 'running'
    RETURNING a.id
$$;
REVOKE EXECUTE ON FUNCTION muster_renew_leases(text, uuid[], integer[], interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_renew_leases(text, uuid[], integer[], interval) TO muster_app, muster_system;

-- The frozen plan of a version; workers keep it, since it never changes.
CREATE FUNCTION muster_version_plan(p_tenant uuid, p_version uuid)
RETURNS TABLE (plan json) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    RETURN QUERY SELECT v.plan FROM workflow_version v WHERE v.id = p_version;
END $$;

-- The table of legal transitions, as in core/state.py (a test compares them). Whatever writes
-- a status, this has the last word.
CREATE FUNCTION muster_check_transition() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    allowed text[];
BEGIN
    IF TG_TABLE_NAME = 'run' THEN
        allowed := CASE OLD.status
            WHEN 'pending' THEN ARRAY['running', 'paused', 'failed', 'cancelled', 'budget_exceeded']
            WHEN 'running' THEN ARRAY['paused', 'completed', 'partially_completed', 'failed',
                                      'cancelled', 'budget_exceeded']
            WHEN 'paused' THEN ARRAY['running', 'failed', 'cancelled', 'budget_exceeded']
            ELSE ARRAY[]::text[] END;
    ELSE
        allowed := CASE OLD.status
            WHEN 'pending' THEN ARRAY['ready', 'queued', 'skipped', 'cancelled']
            WHEN 'ready' THEN ARRAY['queued', 'running', 'waiting', 'skipped', 'failed',
                                    'cancelled', 'budget_exceeded']
            WHEN 'queued' THEN ARRAY['ready', 'running', 'waiting', 'skipped', 'failed',
                                     'cancelled', 'budget_exceeded']
            WHEN 'running' THEN ARRAY['ready', 'queued', 'waiting', 'completed', 'failed',
                                      'cancelled', 'budget_exceeded']
            WHEN 'waiting' THEN ARRAY['ready', 'completed', 'skipped', 'failed', 'cancelled',
                                      'budget_exceeded']
            ELSE ARRAY[]::text[] END;
    END IF;
    IF NEW.status <> ALL (allowed) THEN
        RAISE EXCEPTION '% % cannot go from % to %', TG_TABLE_NAME, OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER transition BEFORE UPDATE OF status ON run
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION muster_check_transition();
CREATE TRIGGER transition BEFORE UPDATE OF status ON agent_run
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION muster_check_transition();
