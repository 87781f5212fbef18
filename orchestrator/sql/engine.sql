-- The engine's hot path: one function, one round trip, one short transaction each. Every
-- function that takes p_tenant opens the tenant's scope itself, so row-level security holds.
-- Times are the database's: workers' clocks differ.
--
-- Where a function forces generic plans, planning its statements anew for each batch of calls took
-- PostgreSQL as long as running them. All of them look rows up by key, and may not be planned otherwise
-- either: such a plan outlives the time when a table was so small that reading all of it was cheaper.

CREATE FUNCTION muster_event(p_tenant uuid, p_run uuid, p_agent_run uuid, p_type text, p_data jsonb)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
    VALUES (p_tenant, p_run, p_agent_run, clock_timestamp(), p_type, p_data)
$$;

-- Takes queued agent runs for a worker, for several of its threads at once: one winner each, next
-- attempt, a lease that ends with the step's time at the latest. Brings all that the attempts
-- need; no row means that a duplicate delivery lost, or that the run has stopped.
CREATE FUNCTION muster_claim_all(p_tenant uuid, p_agent_runs uuid[], p_worker text, p_lease interval)
RETURNS TABLE (agent_run_id uuid, run_id uuid, version_id uuid, step text, attempt integer,
               failures integer, input json, outputs json, replies jsonb,
               environment_credentials boolean, item json, item_index integer, added_by uuid,
               overrides json, project_id uuid, workflow_id uuid, cap_runs uuid[], agent text,
               tenant_weight integer, waited double precision, forgiven integer)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    RETURN QUERY
    WITH taken AS (
        UPDATE agent_run a
           SET status = 'running', attempt = a.attempt + 1, worker = p_worker,
               lease_until = clock_timestamp() + p_lease, attempt_started_at = clock_timestamp(),
               started_at = COALESCE(a.started_at, clock_timestamp())
         -- No join: the planner would begin with the tenant's runs.
         WHERE a.id = ANY (p_agent_runs) AND a.status = 'queued'
           AND (SELECT r.status = 'running' AND r.stop_wanted = '' FROM run r WHERE r.id = a.run_id)
        RETURNING a.id, a.run_id, a.step, a.attempt, a.lost_count, a.spared, a.forgiven, a.reads,
                  a.reads_input, a.item, a.item_index, a.added_by, a.agent, a.waiting_since),
    told AS (
        INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
        SELECT p_tenant, k.run_id, k.id, clock_timestamp(), 'agent.running',
               jsonb_build_object('step', k.step, 'attempt', k.attempt, 'worker', p_worker)
          FROM taken k)
    SELECT k.id, k.run_id, r.version_id, k.step::text, k.attempt,
           k.attempt - 1 - k.lost_count - k.spared - k.forgiven, CASE WHEN k.reads_input THEN r.input END,
           CASE WHEN k.reads <> '{}' THEN
               -- Who has added steps is at work until these have ended, and they read what it gave.
               (SELECT json_object_agg(o.step, CASE o.status WHEN 'running' THEN o.added -> 'output'
                                                    ELSE o.output END) FROM agent_run o
                 WHERE o.run_id = k.run_id AND o.step = ANY (k.reads)) END,
           CASE WHEN k.attempt > 1 THEN
               -- Of two answers to a turn, one came late: who was the last to ask has gone on with its own.
               -- What was too long for the model was answered by that: the agent has said less since.
               (SELECT jsonb_object_agg(c.turn, COALESCE(c.reply, '{"is_too_long": true}') ORDER BY c.attempt)
                  FROM llm_call c
                 WHERE c.agent_run_id = k.id AND c.attempt > k.forgiven AND c.tool_call_id IS NULL
                   AND (c.status = 'closed'
                        OR c.status = 'failed' AND c.error ->> 'kind' = 'context_too_long')) END,
           t.uses_environment_credentials,
           -- In a loop of a map, the item that it is at (see `core.places`).
           CASE WHEN k.item IS NULL AND k.step LIKE '%][%].%' THEN
               (SELECT i.item FROM agent_run i WHERE i.run_id = k.run_id
                   AND i.step = substring(k.step FROM '^(.*\[\d+\])\[\d+\]\.')) ELSE k.item END,
           k.item_index, k.added_by,
           -- Those of its step, which an item of a map shares with the whole.
           CASE WHEN strpos(k.step, '.') = 0 THEN r.overrides -> split_part(k.step, '[', 1) END,
           r.project_id, r.workflow_id, r.cap_runs, k.agent::text, t.weight::integer,
           extract(epoch FROM clock_timestamp() - k.waiting_since)::double precision, k.forgiven
      FROM taken k
     CROSS JOIN LATERAL (SELECT x.version_id, x.input, x.overrides, x.project_id, x.workflow_id,
                                x.cap_runs FROM run x WHERE x.id = k.run_id LIMIT 1) r
     CROSS JOIN (SELECT x.uses_environment_credentials, x.weight FROM tenant x WHERE x.id = p_tenant) t;
END $$;

-- Whether an attempt may open a call; NULL if so. Otherwise what muster_open_calls answers.
CREATE FUNCTION muster_may_open(
    p_agent_run uuid, p_attempt integer, p_call uuid, p_turn integer, p_bound bigint, p_cap bigint,
    p_tool_call uuid DEFAULT NULL, OUT opened text, OUT run uuid, OUT reply jsonb, OUT hold bigint, OUT refusal jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    a record;
    v_spent bigint;
    v_batched jsonb;
BEGIN
    -- No join, as in muster_claim_all.
    SELECT x.run_id, x.forgiven,
           (SELECT r.stop_wanted <> '' FROM run r WHERE r.id = x.run_id) AS is_stopping INTO a
      FROM agent_run x
     WHERE x.id = p_agent_run AND x.attempt = p_attempt AND x.status = 'running'
       AND x.lease_until > clock_timestamp();
    IF NOT FOUND THEN opened := 'lost'; RETURN; END IF;
    IF a.is_stopping THEN opened := 'stopping'; RETURN; END IF;
    -- The same call again, after a connection broke between its commit and the answer.
    SELECT c.hold_nano INTO hold FROM llm_call c WHERE c.id = p_call;
    IF FOUND THEN opened := 'opened'; RETURN; END IF;
    IF p_attempt > 1 THEN
        SELECT c.reply INTO reply FROM llm_call c
         WHERE c.agent_run_id = p_agent_run AND c.turn = p_turn AND c.status = 'closed'
           AND c.tool_call_id IS NOT DISTINCT FROM p_tool_call
           AND c.attempt > a.forgiven ORDER BY c.attempt DESC LIMIT 1;
        IF FOUND THEN opened := 'answered'; RETURN; END IF;
        -- What a tool asks of a model is never in a batch; its turns have numbers of their own.
        v_batched := CASE WHEN p_tool_call IS NULL THEN muster_batched_turn(p_agent_run, p_turn, a.forgiven) END;
        IF v_batched IS NOT NULL THEN
            opened := v_batched ->> 'what';
            refusal := v_batched;
            RETURN;
        END IF;
    END IF;
    IF p_cap IS NOT NULL THEN
        -- With what it has given up waiting for, and will be charged.
        SELECT COALESCE(sum(CASE c.status WHEN 'open' THEN c.hold_nano ELSE c.cost_nano END), 0) INTO v_spent
          FROM llm_call c WHERE c.agent_run_id = p_agent_run;
        IF v_spent + p_bound > p_cap THEN
            opened := 'capped';
            refusal := jsonb_build_object('limit_nano', p_cap, 'spent_nano', v_spent, 'needs_nano', p_bound);
            RETURN;
        END IF;
    END IF;
    run := a.run_id;
END $$;

-- Records calls before they are sent, of several threads of a worker at once, each with its worst
-- case held in every budget that applies: `opened`. One must not be sent if its attempt lost its lease
-- (`lost`), if its run is to end (`stopping`), if a worker that was given up has brought in the answer
-- since the claim (`answered`, with the reply), or for money: a budget is `busy` or `exhausted` (see
-- muster_hold), or its step is `capped`. What was put into a batch for the turn is `batched` still, or
-- has `failed` there (see muster_batched_turn).
CREATE FUNCTION muster_open_calls(p_tenant uuid, p_calls jsonb)
RETURNS TABLE (number bigint, opened text, reply jsonb, hold bigint, refusal jsonb)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    v_agent_runs uuid[] := ARRAY(SELECT (c ->> 'agent_run')::uuid FROM jsonb_array_elements(p_calls) c);
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    PERFORM 1 FROM agent_run a WHERE a.id = ANY (v_agent_runs) ORDER BY a.run_id, a.id FOR NO KEY UPDATE;
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT f.*, m.*
          FROM ROWS FROM (jsonb_to_recordset(p_calls) AS (
                   agent_run uuid, attempt integer, call uuid, turn integer, provider text, model text,
                   role text, credential uuid, request jsonb, prices jsonb, estimate bigint, bound bigint,
                   cap bigint, project uuid, workflow uuid, runs text, agent text, tool_call uuid)) WITH ORDINALITY AS f
         CROSS JOIN LATERAL muster_may_open(
                   f.agent_run, f.attempt, f.call, f.turn, f.bound, f.cap, f.tool_call) AS m),
    held AS MATERIALIZED (
        SELECT h.*
          FROM (SELECT array_agg(k.ordinality) AS numbers, array_agg(k.project) AS projects,
                       array_agg(k.workflow) AS workflows, array_agg(k.runs) AS runs,
                       array_agg(k.agent) AS agents, array_agg(k.bound) AS bounds,
                       -- A step that may cost no more than so much is certain not to.
                       array_agg(CASE WHEN k.cap IS NULL THEN k.estimate ELSE k.bound END) AS estimates
                  FROM asked k WHERE k.opened IS NULL HAVING count(*) > 0) w
         CROSS JOIN LATERAL muster_hold(p_tenant, w.numbers, w.projects, w.workflows, w.runs, w.agents,
                                        w.estimates, w.bounds) AS h),
    written AS (
        INSERT INTO llm_call (id, tenant_id, run_id, agent_run_id, attempt, turn, status, provider,
                              model, role, credential_id, request, hold_nano, budget_periods, unit_prices,
                              tool_call_id)
        SELECT k.call, p_tenant, k.run, k.agent_run, k.attempt, k.turn, 'open', k.provider, k.model,
               k.role, k.credential, k.request, h.amount, h.periods, k.prices, k.tool_call
          FROM asked k JOIN held h ON h.number = k.ordinality WHERE h.verdict = 'held'
        RETURNING agent_run_id),
    going AS (
        UPDATE agent_run a SET waiting_since = NULL, waits_on = ''
         WHERE a.id = ANY (v_agent_runs) AND a.id IN (SELECT w.agent_run_id FROM written w)
           AND a.waiting_since IS NOT NULL)
    SELECT k.ordinality, COALESCE(k.opened, CASE h.verdict WHEN 'held' THEN 'opened' ELSE h.verdict END),
           k.reply, COALESCE(k.hold, h.amount), COALESCE(k.refusal, h.refusal)
      FROM asked k LEFT JOIN held h ON h.number = k.ordinality ORDER BY k.ordinality;
END $$;

-- Tells how calls have ended, in the ledger and in their runs' events. Amounts are what each adds to
-- the ledger, as a line of its kind.
CREATE FUNCTION muster_charge(p_calls uuid[], p_kinds text[], p_amounts bigint[])
RETURNS void LANGUAGE sql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
    INSERT INTO cost_entry (id, tenant_id, at, held_at, kind, amount_nano, estimated, call_id, project_id,
        workflow_id, workflow_name, run_id, agent_run_id, attempt, step, agent, role, provider,
        model, input_tokens, output_tokens, cached_tokens, cache_write_tokens,
        reasoning_tokens, cache_write_1h_tokens, unit_prices)
    SELECT uuidv7(), c.tenant_id, clock_timestamp(), c.created_at, x.kind, x.amount, c.estimated, c.id,
           r.project_id, r.workflow_id, w.name, c.run_id, c.agent_run_id, c.attempt, a.step,
           a.agent, c.role, c.provider, COALESCE(NULLIF(c.answered_model, ''), c.model),
           c.input_tokens, c.output_tokens, c.cached_tokens, c.cache_write_tokens,
           c.reasoning_tokens,
           COALESCE((c.reply -> 'usage' ->> 'cache_write_1h_tokens')::bigint, 0), c.unit_prices
      FROM unnest(p_calls, p_kinds, p_amounts) AS x (id, kind, amount)
     -- One by one, by key: the planner would begin with the tenant's runs.
     CROSS JOIN LATERAL (SELECT l.* FROM llm_call l WHERE l.id = x.id LIMIT 1) c
     CROSS JOIN LATERAL (SELECT s.step, s.agent FROM agent_run s WHERE s.id = c.agent_run_id LIMIT 1) a
     CROSS JOIN LATERAL (SELECT y.project_id, y.workflow_id FROM run y WHERE y.id = c.run_id LIMIT 1) r
     CROSS JOIN LATERAL (SELECT z.name FROM workflow z WHERE z.id = r.workflow_id LIMIT 1) w
    ON CONFLICT DO NOTHING;
    INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
    SELECT c.tenant_id, c.run_id, c.agent_run_id, clock_timestamp(), 'llm_call.' || c.status,
           jsonb_build_object('attempt', c.attempt, 'turn', c.turn, 'provider', c.provider,
               'model', c.model, 'input_tokens', c.input_tokens, 'output_tokens', c.output_tokens,
               'cost_nano', c.cost_nano)
      FROM unnest(p_calls) AS x (id)
     CROSS JOIN LATERAL (SELECT l.* FROM llm_call l WHERE l.id = x.id LIMIT 1) c
$$;

-- Corrects what an ended run cost, and what the steps and runs above it did.
CREATE FUNCTION muster_correct_run(p_run uuid, p_amount bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_step uuid;
    v_above uuid;
BEGIN
    -- Locked first: the updates have to see whether it has ended meanwhile.
    PERFORM 1 FROM run r WHERE r.id = p_run FOR NO KEY UPDATE;
    UPDATE run SET cost_nano = cost_nano + p_amount WHERE id = p_run AND finished_at IS NOT NULL
    RETURNING parent_agent_run_id INTO v_step;
    IF v_step IS NULL THEN RETURN; END IF;
    PERFORM 1 FROM agent_run a WHERE a.id = v_step FOR NO KEY UPDATE;
    UPDATE agent_run SET cost_nano = cost_nano + p_amount WHERE id = v_step AND finished_at IS NOT NULL
    RETURNING run_id INTO v_above;
    IF v_above IS NOT NULL THEN PERFORM muster_correct_run(v_above, p_amount); END IF;
END $$;

-- Ends calls and charges them, both or neither, for several threads of a worker at once.
-- Compare-and-swap by call id, not fenced: what a late attempt really paid is always recorded. False
-- for one that was open no more, or is not there.
CREATE FUNCTION muster_end_calls(p_tenant uuid, p_calls jsonb)
RETURNS TABLE (number bigint, ended boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    v_all uuid[] := ARRAY(SELECT (c ->> 'call')::uuid FROM jsonb_array_elements(p_calls) c);
    v_open uuid[];
    v_kinds text[];
    v_costs bigint[];
    v_holds bigint[];
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    SELECT array_agg(x.id) INTO v_open
      FROM (SELECT c.id FROM llm_call c WHERE c.id = ANY (v_all) AND c.status = 'open'
             ORDER BY c.id FOR NO KEY UPDATE) x;
    IF v_open IS NOT NULL THEN
        SELECT array_agg(e.id), array_agg(CASE e.status WHEN 'closed' THEN 'call' ELSE e.status END),
               array_agg(e.cost_nano), array_agg(e.hold_nano)
          INTO v_open, v_kinds, v_costs, v_holds FROM muster_write_ends(v_open, p_calls) e;
        PERFORM muster_charge(v_open, v_kinds, v_costs);
        -- Budgets come last: whoever locks them waits for nothing more.
        PERFORM muster_settle_calls(v_open, v_holds, v_costs);
    END IF;
    RETURN QUERY SELECT f.number, COALESCE(f.call = ANY (v_open), false)
                   FROM unnest(v_all) WITH ORDINALITY AS f (call, number) ORDER BY f.number;
END $$;

-- Writes how calls have ended into those of p_which.
CREATE FUNCTION muster_write_ends(p_which uuid[], p_calls jsonb) RETURNS SETOF llm_call
LANGUAGE sql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
    UPDATE llm_call c
       SET status = f.status, cost_nano = f.cost, reply = f.reply, error = f.error,
           answered_model = f.model, input_tokens = f.input, output_tokens = f.output,
           cached_tokens = f.cached, cache_write_tokens = f.cache_write,
           reasoning_tokens = f.reasoning, estimated = f.estimated,
           ended_at = clock_timestamp(), updated_at = clock_timestamp()
      FROM jsonb_to_recordset(p_calls) AS f (
               call uuid, status text, cost bigint, reply jsonb, error jsonb, model text, input bigint,
               output bigint, cached bigint, cache_write bigint, reasoning bigint, estimated boolean)
     WHERE c.id = f.call AND c.id = ANY (p_which)
    RETURNING c.*
$$;

-- The answer to a call that was given up as in doubt: what was charged is corrected, in the ledger, in
-- its step and runs, and in its budgets. False if that has been done before, or its run is gone.
CREATE FUNCTION muster_correct_call(p_tenant uuid, p_answer jsonb) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    was llm_call;
    v_more bigint;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    PERFORM muster_treat_again(p_tenant, (p_answer ->> 'call')::uuid);
    SELECT * INTO was FROM llm_call WHERE id = (p_answer ->> 'call')::uuid FOR NO KEY UPDATE;
    IF NOT FOUND OR was.status <> 'in_doubt' OR p_answer ->> 'status' <> 'closed' THEN RETURN false; END IF;
    -- Against whoever opens the same turn again, or sums up what is corrected here.
    PERFORM 1 FROM run r WHERE r.id = was.run_id FOR NO KEY UPDATE;
    PERFORM 1 FROM agent_run a WHERE a.id = was.agent_run_id FOR NO KEY UPDATE;
    SELECT e.cost_nano - was.cost_nano INTO v_more
      FROM muster_write_ends(ARRAY[was.id], jsonb_build_array(p_answer)) e;
    PERFORM muster_charge(ARRAY[was.id], ARRAY['correction'], ARRAY[v_more]);
    PERFORM muster_sum_calls(ARRAY[was.agent_run_id]);
    PERFORM muster_correct_run(was.run_id, v_more);
    PERFORM muster_settle_calls(ARRAY[was.id], ARRAY[0], ARRAY[v_more]);
    RETURN true;
END $$;

-- Has calls give back what they hold, and charges their budgets for what they have cost.
CREATE FUNCTION muster_settle_calls(p_calls uuid[], p_held bigint[], p_spent bigint[]) RETURNS void
LANGUAGE sql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
    SELECT muster_settle_holds(array_agg(p.id), array_agg(x.held), array_agg(x.spent))
      FROM unnest(p_calls, p_held, p_spent) AS x (id, held, spent)
      JOIN llm_call c ON c.id = x.id AND c.id = ANY (p_calls)
     CROSS JOIN unnest(c.budget_periods) AS p (id)
    HAVING count(*) > 0
$$;

-- Charges the calls that attempts at agent runs left open: whether they were answered is not known.
-- Gives their ids and holds, for the caller to settle them with their budgets in the end. Those in
-- batches are left to their batch.
CREATE FUNCTION muster_doubt_calls(p_agent_runs uuid[], OUT calls uuid[], OUT holds bigint[])
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM llm_call l
      WHERE l.agent_run_id = ANY (p_agent_runs) AND l.status = 'open' AND l.batch_id IS NULL
      ORDER BY l.id FOR NO KEY UPDATE;
    WITH doubted AS (
        UPDATE llm_call l SET status = 'in_doubt', cost_nano = l.hold_nano, ended_at = clock_timestamp()
         WHERE l.agent_run_id = ANY (p_agent_runs) AND l.status = 'open' AND l.batch_id IS NULL
        RETURNING l.id, l.hold_nano)
    SELECT array_agg(d.id), array_agg(d.hold_nano) INTO calls, holds FROM doubted d;
    IF calls IS NOT NULL THEN
        PERFORM muster_charge(calls, array_fill('in_doubt'::text, ARRAY[cardinality(calls)]), holds);
    END IF;
END $$;

-- Publishes `advance` at most once until it has begun: true for the one who must publish.
CREATE FUNCTION muster_want_advance(p_run uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE run SET advance_wanted = true, advance_wanted_at = clock_timestamp()
     WHERE id = p_run AND NOT advance_wanted AND status IN ('pending', 'running');
    RETURN FOUND;
END $$;

-- The hints that functions below ask their caller to publish: `what` is `queued` or `chord` for
-- an agent run of a priority, `advance` for a run. The priority of one that is heavy is 100 more.
CREATE TYPE muster_hint AS (what text, run_id uuid, agent_run_id uuid, priority integer);

-- Counts what a tenant has in flight (queued, or held by a worker), each connection for itself: in
-- one row they would wait for each other's commits. Only the sum means something.
CREATE FUNCTION muster_count_in_flight(p_tenant uuid, p_more bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_more = 0 THEN RETURN; END IF;
    INSERT INTO tenant_load AS l (tenant_id, connection, in_flight, ended)
    VALUES (p_tenant, pg_backend_pid(), p_more, GREATEST(-p_more, 0))
    ON CONFLICT (tenant_id, connection) DO UPDATE
       SET in_flight = l.in_flight + excluded.in_flight, ended = l.ended + excluded.ended;
END $$;

-- How many more the tenant may have in flight.
CREATE FUNCTION muster_room(p_tenant uuid) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT GREATEST(0, COALESCE((SELECT s."window" FROM tenant_share s WHERE s.tenant_id = p_tenant),
                                (SELECT c."window" FROM cluster_load c), 1000)
        - COALESCE((SELECT sum(l.in_flight) FROM tenant_load l WHERE l.tenant_id = p_tenant), 0))
$$;

-- Sends agent runs to the workers.
CREATE FUNCTION muster_send(p_tenant uuid, p_agent_runs uuid[], p_in_chord boolean)
RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
DECLARE
    v_sent bigint;
BEGIN
    RETURN QUERY
    WITH moved AS (
        UPDATE agent_run
           SET status = 'queued', in_chord = p_in_chord, queued_at = clock_timestamp(),
               published_at = clock_timestamp(), publish_count = 1, waiting_for = '', due_at = NULL
         WHERE id = ANY (p_agent_runs) AND status IN ('pending', 'ready', 'waiting')
        RETURNING tenant_id, run_id, id, step, priority, position, is_heavy),
    told AS (
        INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
        SELECT tenant_id, run_id, id, clock_timestamp(), 'agent.queued',
               jsonb_build_object('step', step) FROM moved)
    SELECT CASE WHEN p_in_chord THEN 'chord' ELSE 'queued' END, run_id, id,
           priority + CASE WHEN is_heavy THEN 100 ELSE 0 END
      FROM moved ORDER BY priority DESC, position;
    GET DIAGNOSTICS v_sent = ROW_COUNT;
    PERFORM muster_count_in_flight(p_tenant, v_sent);
END $$;

-- Makes agent runs ready: they are due, and lie in the lane of their run until they have a place.
CREATE FUNCTION muster_make_ready(p_agent_runs uuid[]) RETURNS void LANGUAGE sql AS $$
    WITH moved AS (
        UPDATE agent_run
           SET status = 'ready', tells = tells OR in_chord, in_chord = false, waiting_for = '', due_at = NULL
         WHERE id = ANY (p_agent_runs) AND status IN ('pending', 'ready', 'queued', 'waiting')
        RETURNING tenant_id, run_id, id, priority, position, item_index)
    INSERT INTO ready_agent_run (lane, tenant_id, run_id, urgency, deadline, position, agent_run_id)
    SELECT run_id, tenant_id, run_id, 10 - priority, 0, COALESCE(item_index, position), id FROM moved
    ON CONFLICT DO NOTHING
$$;

-- Has agent runs that have a place in their run wait for one in the tenant's share of the
-- cluster: the most urgent first, of those the one with the nearest deadline, then the oldest.
CREATE FUNCTION muster_line_up(p_tenant uuid, p_agent_runs uuid[]) RETURNS void LANGUAGE sql AS $$
    WITH moved AS (
        UPDATE agent_run a
           SET status = 'ready', waiting_for = '', due_at = NULL
         WHERE a.id = ANY (p_agent_runs) AND a.status IN ('pending', 'ready', 'waiting')
        RETURNING a.id, a.run_id, a.priority, a.position)
    INSERT INTO ready_agent_run (lane, tenant_id, run_id, urgency, deadline, position, agent_run_id)
    SELECT p_tenant, p_tenant, m.run_id, 10 - m.priority,
           COALESCE((SELECT extract(epoch FROM r.deadline_at)::bigint FROM run r WHERE r.id = m.run_id),
                    9223372036854775807),
           extract(epoch FROM clock_timestamp())::bigint * 1000 + LEAST(m.position, 999), m.id
      FROM moved m
    ON CONFLICT DO NOTHING
$$;

-- Takes the most urgent out of a lane. By place, since the array keeps the planner from running
-- the limited query more than once.
CREATE FUNCTION muster_leave_lane(p_lane uuid, p_room bigint) RETURNS uuid[] LANGUAGE sql AS $$
    WITH taken AS (
        DELETE FROM ready_agent_run
         WHERE ctid = ANY (ARRAY(SELECT q.ctid FROM ready_agent_run q WHERE q.lane = p_lane
                                  ORDER BY q.urgency, q.deadline, q.position
                                  LIMIT p_room FOR UPDATE SKIP LOCKED))
        RETURNING agent_run_id)
    SELECT array_agg(agent_run_id) FROM taken
$$;

-- Queues agent runs, as far as the tenant's share of the cluster goes; the rest waits for it.
CREATE FUNCTION muster_queue(p_agent_runs uuid[]) RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
DECLARE
    v_tenant uuid := current_setting('app.tenant_id');
BEGIN
    IF COALESCE(cardinality(p_agent_runs), 0) = 0 THEN
        RETURN;
    ELSIF muster_is_waiting(v_tenant) OR cardinality(p_agent_runs) > muster_room(v_tenant) THEN
        PERFORM muster_line_up(v_tenant, p_agent_runs);
        RETURN QUERY SELECT * FROM muster_refill(v_tenant);
    ELSE
        RETURN QUERY SELECT * FROM muster_send(v_tenant, p_agent_runs, false);
    END IF;
END $$;

-- Whether agent runs of the tenant wait for its share of the cluster.
CREATE FUNCTION muster_is_waiting(p_tenant uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM ready_agent_run q WHERE q.lane = p_tenant)
$$;

-- Queues what waits for the tenant's share of the cluster, as far as there is room in it. A lane's
-- row is locked before its agent run, wherever both are.
CREATE FUNCTION muster_refill(p_tenant uuid) RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    RETURN QUERY SELECT * FROM muster_send(
        p_tenant, muster_leave_lane(p_tenant, muster_room(p_tenant)), false);
END $$;

-- What follows when p_ended agent runs of a run have left their places and p_due have become
-- due: those that have a place (`due`), and whether `advance` is to be asked. The others wait where
-- the run has a window, or stands still. The row of the run is locked before any of theirs, as
-- `advance` does it, wherever it is changed.
CREATE FUNCTION muster_give_places(
    p_run uuid, p_due uuid[], p_ended integer, p_tell boolean, OUT due uuid[], OUT asks boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_goes boolean;
    v_window integer;
    v_busy integer := 0;
BEGIN
    SELECT r.status = 'running' AND r.stop_wanted = '', r.window INTO v_goes, v_window
      FROM run r WHERE r.id = p_run;
    IF v_window IS NOT NULL OR p_tell OR NOT v_goes THEN
        SELECT r.status = 'running' AND r.stop_wanted = '', r.window, r.in_flight - p_ended
          INTO v_goes, v_window, v_busy FROM run r WHERE r.id = p_run FOR NO KEY UPDATE;
    END IF;
    IF v_goes AND v_window IS NULL THEN
        due := p_due;
    ELSE
        IF p_due IS NOT NULL THEN
            PERFORM muster_make_ready(p_due);
        END IF;
        IF v_goes AND v_busy < v_window THEN
            due := muster_leave_lane(p_run, v_window - v_busy);
            v_busy := v_busy + COALESCE(cardinality(due), 0);
        END IF;
        UPDATE run SET in_flight = v_busy WHERE id = p_run;
    END IF;
    asks := (p_tell OR (v_window IS NOT NULL AND p_ended > 0 AND v_busy <= 0)) AND muster_want_advance(p_run);
END $$;

-- Hands out agent runs of a run that have become due.
CREATE FUNCTION muster_hand_out(p_run uuid, p_due uuid[]) RETURNS SETOF muster_hint LANGUAGE sql AS $$
    SELECT h.* FROM muster_give_places(p_run, p_due, 0, false) AS g
     CROSS JOIN LATERAL muster_queue(g.due) AS h
$$;

-- Lowers gates, one for each time that p_gates names it. A need that did not complete spoils its
-- gate: whether the steps behind may start is then for `advance` to say.
CREATE FUNCTION muster_lower_gates(
    p_run uuid, p_gates integer[], p_spoiled integer[], OUT due uuid[], OUT asks boolean)
LANGUAGE plpgsql AS $$
BEGIN
    -- In one order, as all locks are taken.
    PERFORM 1 FROM gate g WHERE g.run_id = p_run AND g.number = ANY (p_gates || p_spoiled)
      ORDER BY g.number FOR NO KEY UPDATE;
    WITH lowered AS (
        UPDATE gate g
           SET "left" = GREATEST(g."left" - n.times, 0), tells = g.tells OR n.spoils,
               steps = CASE WHEN n.spoils THEN '{}' ELSE g.steps END
          FROM (SELECT x.number, count(*) AS times, bool_or(x.spoils) AS spoils
                  FROM (SELECT unnest(p_gates) AS number, false AS spoils
                        UNION ALL SELECT unnest(p_spoiled), true) x GROUP BY x.number) n
         WHERE g.run_id = p_run AND g.number = n.number
        RETURNING g."left", g.tells, g.steps),
    opened AS (SELECT l.tells, l.steps FROM lowered l WHERE l."left" = 0)
    SELECT (SELECT array_agg(a.id) FROM opened o CROSS JOIN unnest(o.steps) AS s (step)
              JOIN agent_run a ON a.run_id = p_run AND a.step = s.step),
           COALESCE((SELECT bool_or(o.tells) FROM opened o), false)
      INTO due, asks;
END $$;

-- Has an agent run stand for the steps that each of p_mine delegates, of which p_added are told. It is
-- named by their number; taken up again, an agent delegates them once.
CREATE FUNCTION muster_stand_below(p_tenant uuid, p_mine uuid[], p_agent_runs uuid[], p_added json[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH standing AS (
        INSERT INTO agent_run (id, tenant_id, run_id, parent_id, step, position, level, kind, status,
                               priority, reads, reads_input, agent, uses_model, attempt, started_at,
                               attempt_started_at, tells, added, added_by)
        SELECT uuidv7(), p_tenant, a.run_id, a.id, a.step || '.' || (f.added ->> 'number'), a.position,
               a.level, 'steps', 'running', a.priority, '{}', false, a.agent, false, 1, clock_timestamp(),
               clock_timestamp(), true, f.added, a.added_by
          FROM unnest(p_agent_runs, p_added) AS f (id, added)
          JOIN agent_run a ON a.id = f.id AND a.id = ANY (p_mine)
         WHERE a.status = 'waiting' AND a.waiting_for = 'delegation' AND f.added IS NOT NULL
        ON CONFLICT DO NOTHING
        RETURNING id, run_id, step, attempt)
    INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
    SELECT p_tenant, s.run_id, s.id, clock_timestamp(), 'agent.running',
           jsonb_build_object('step', s.step, 'attempt', s.attempt)
      FROM standing s;
END $$;

-- Ends or interrupts attempts with their outcomes, for several threads of a worker at once, and
-- ends what waited without a worker (p_from). `waiting` lets an agent run try again in
-- p_again_in, after a failure (p_waits: `retry`) or once a limit or budget lets it through
-- (p_gates names it), or a batch has answered (`batch`), or go on once people have agreed to its calls
-- (`approval`, see muster_hold_calls), or once steps have ended that it adds to its run (p_added, `delegation`), for
-- which an agent run of their own stands below it; `queued` takes it from a worker that is gone; `running`
-- has it stand for the steps that it adds by itself, in an attempt of its own, so that nobody ends it
-- twice. Any other status ends it. Gives `finished` with the attempt's number for each that still was its
-- agent run's, and the hints.
CREATE FUNCTION muster_finish_all(
    p_tenant uuid, p_from text, p_agent_runs uuid[], p_attempts integer[], p_statuses text[],
    p_reasons text[], p_prompts text[], p_outputs json[], p_errors jsonb[],
    p_again_in double precision[], p_systems jsonb[], p_added json[] DEFAULT NULL,
    p_waits text[] DEFAULT NULL, p_gates text[] DEFAULT NULL)
RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
DECLARE
    v_mine uuid[];
    v_thinking uuid[];
    v_doubted uuid[];
    v_holds bigint[];
    v_due uuid[];
    v_lowered record;
    v_given record;
    v_sent uuid[];
    v_places bigint := 0;
    g record;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    IF p_from = 'waiting' THEN
        -- Whoever stops a run has locked it, and then wants its agent runs that wait.
        PERFORM 1 FROM run r
          WHERE r.id = ANY (ARRAY(SELECT a.run_id FROM agent_run a WHERE a.id = ANY (p_agent_runs)))
          ORDER BY r.id FOR NO KEY UPDATE;
    END IF;
    -- Locked by run, then by id: the order in which all take their locks.
    SELECT array_agg(x.id), array_agg(x.id) FILTER (WHERE x.uses_model) INTO v_mine, v_thinking
      FROM (SELECT a.id, a.uses_model FROM agent_run a
             WHERE a.id = ANY (p_agent_runs) AND a.status = p_from
               AND (SELECT bool_or(f.attempt = a.attempt)
                      FROM unnest(p_agent_runs, p_attempts) AS f (id, attempt) WHERE f.id = a.id)
             ORDER BY a.run_id, a.id FOR NO KEY UPDATE OF a) x;
    IF v_mine IS NULL THEN RETURN; END IF;
    IF v_thinking IS NOT NULL THEN
        SELECT d.calls, d.holds INTO v_doubted, v_holds FROM muster_doubt_calls(v_thinking) d;
        PERFORM muster_sum_calls(v_thinking);
    END IF;
    FOR g IN
    WITH given AS (
        SELECT * FROM unnest(p_agent_runs, p_attempts, p_statuses, p_reasons, p_prompts, p_outputs,
                             p_errors, p_again_in, p_systems, p_added, p_waits, p_gates)
               AS f (id, attempt, status, reason, prompt, output, error, again_in, system, added,
                     waits, gate)),
    done AS (
        UPDATE agent_run a
           SET status = f.status, status_reason = f.reason, prompt = COALESCE(f.prompt, a.prompt),
               output = f.output, error = f.error, lease_until = NULL,
               waiting_for = CASE WHEN f.status = 'waiting' THEN COALESCE(f.waits, 'retry') ELSE '' END,
               waits_on = COALESCE(f.gate, ''),
               -- A batch is no gate: what it takes counts against no `max_wait`.
               waiting_since = CASE WHEN f.gate <> '' AND f.waits IS DISTINCT FROM 'batch' THEN COALESCE(a.waiting_since, clock_timestamp()) END,
               spared = a.spared + (p_from = 'running' AND COALESCE(f.error ->> 'code', '') <> 'worker_lost'
                   AND (COALESCE(f.gate, '') <> '' OR COALESCE(f.error ->> 'code', '') = 'worker_left'
                        OR f.status IN ('budget_exceeded', 'cancelled', 'running')
                        OR f.status = 'waiting' AND f.waits IN ('delegation', 'approval')))::integer,
               due_at = clock_timestamp() + make_interval(secs => f.again_in),
               lost_count = a.lost_count + (COALESCE(f.error ->> 'code', '') = 'worker_lost')::integer,
               -- The chord has counted the task by now; what comes after it asks `advance`.
               tells = a.tells OR (a.in_chord AND f.status IN ('waiting', 'queued', 'running')),
               in_chord = a.in_chord AND f.status NOT IN ('waiting', 'queued', 'running'),
               kind = CASE f.status WHEN 'running' THEN 'steps' ELSE a.kind END,
               added = CASE f.status WHEN 'running' THEN f.added ELSE a.added END,
               attempt = CASE f.status WHEN 'running' THEN a.attempt + 1 ELSE a.attempt END,
               attempt_started_at = CASE f.status WHEN 'running' THEN clock_timestamp()
                                         ELSE a.attempt_started_at END,
               queued_at = CASE WHEN f.status = 'queued' THEN clock_timestamp() ELSE a.queued_at END,
               published_at = CASE WHEN f.status = 'queued' THEN clock_timestamp() ELSE a.published_at END,
               publish_count = CASE WHEN f.status = 'queued' THEN 1 ELSE a.publish_count END,
               finished_at = CASE WHEN f.status NOT IN ('waiting', 'queued', 'running') THEN clock_timestamp() END,
               updated_at = clock_timestamp()
          FROM given f
         WHERE a.id = f.id AND a.attempt = f.attempt AND a.id = ANY (v_mine) AND a.status = p_from
        RETURNING a.id, a.run_id, a.step, old.attempt, a.worker, a.status, a.status_reason, a.priority, a.cost_nano,
                  a.error, old.attempt_started_at, a.due_at, a.waiting_for, a.waits_on, a.in_chord, a.tells, a.next_steps, a.gates,
                  a.parent_id, a.attempt_started_at AS stands_since,
                  old.lease_until IS NOT NULL AS had_place,
                  old.tells AS told_before, f.system, a.waiting_for = 'delegation' AS delegates),
    tried AS (
        INSERT INTO attempt (id, tenant_id, agent_run_id, number, worker, outcome, error, system,
                             started_at, finished_at)
        SELECT uuidv7(), p_tenant, d.id, d.attempt, d.worker,
               CASE WHEN d.error ->> 'code' = 'worker_lost' THEN 'lost'
                    WHEN d.error ->> 'code' = 'worker_left' THEN 'handed_over'
                    WHEN d.waits_on <> '' THEN 'waited'
                    WHEN d.delegates THEN 'delegated'
                    WHEN d.waiting_for = 'approval' THEN 'held'
                    WHEN d.status = 'waiting' THEN 'failed'
                    WHEN d.status = 'running' THEN 'added_steps' ELSE d.status END,
               d.error, d.system, COALESCE(d.attempt_started_at, clock_timestamp()),
               CASE d.status WHEN 'running' THEN d.stands_since ELSE clock_timestamp() END
          FROM done d WHERE p_from = 'running'),
    told AS (
        INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
        SELECT p_tenant, d.run_id, d.id, clock_timestamp(),
               'agent.' || CASE d.status WHEN 'queued' THEN 'recovered' WHEN 'running' THEN 'added_steps'
                                         ELSE d.status END,
               jsonb_strip_nulls(jsonb_build_object('step', d.step, 'attempt', d.attempt,
                   'cost_nano', d.cost_nano, 'error', d.error, 'until', d.due_at,
                   'reason', NULLIF(d.waiting_for, ''), 'gate', NULLIF(d.waits_on, '')))
          FROM done d)
    SELECT d.run_id AS run, array_agg(d.id) AS ids, array_agg(d.attempt) AS attempts,
           array_agg(d.id) FILTER (WHERE d.status = 'queued') AS again,
           array_agg(d.priority::integer) FILTER (WHERE d.status = 'queued') AS priorities,
           count(*) FILTER (WHERE d.status <> 'queued' AND d.had_place)::integer AS places,
           -- What became of an item is for the gate of its map to tell.
           bool_or(CASE d.status WHEN 'completed' THEN d.tells WHEN 'waiting' THEN d.told_before OR d.delegates
                       WHEN 'queued' THEN false WHEN 'running' THEN true ELSE d.tells OR d.parent_id IS NULL END) AS tells,
           array_agg(d.parent_id) FILTER (
               WHERE d.parent_id IS NOT NULL AND d.status NOT IN ('waiting', 'queued', 'running')) AS lanes,
           -- A chord that goes well needs nothing from here.
           bool_and(d.status = 'queued' OR (d.in_chord AND NOT d.tells AND d.status = 'completed')) AS is_counted,
           min(d.status_reason) FILTER (WHERE d.status = 'budget_exceeded') AS broke,
           (SELECT array_agg(n.step) FROM done e CROSS JOIN unnest(e.next_steps) AS n (step)
             WHERE e.run_id = d.run_id AND e.status = 'completed') AS next_steps,
           (SELECT array_agg(n.number) FROM done e CROSS JOIN unnest(e.gates) AS n (number)
             WHERE e.run_id = d.run_id AND e.status = 'completed') AS gates,
           (SELECT array_agg(n.number) FROM done e CROSS JOIN unnest(e.gates) AS n (number)
             WHERE e.run_id = d.run_id AND e.status NOT IN ('completed', 'waiting', 'queued', 'running')) AS spoiled
      FROM done d GROUP BY d.run_id ORDER BY d.run_id
    LOOP
        v_places := v_places + g.places;
        RETURN QUERY SELECT 'finished', g.run, f.id, f.attempt
                       FROM unnest(g.ids, g.attempts) AS f (id, attempt);
        RETURN QUERY SELECT 'queued', g.run, q.id, q.priority
                       FROM unnest(g.again, g.priorities) AS q (id, priority);
        CONTINUE WHEN g.is_counted;
        -- Without money nothing more of the run begins; what is under way goes on to its end.
        IF g.broke IS NOT NULL AND muster_stop_run(p_tenant, g.run, 'budget_exceeded', g.broke) THEN
            RETURN QUERY SELECT 'advance', g.run, NULL::uuid, NULL::integer;
        END IF;
        SELECT array_agg(a.id) INTO v_due FROM agent_run a
         WHERE g.next_steps IS NOT NULL AND a.run_id = g.run AND a.step = ANY (g.next_steps);
        -- The place of an item goes to the next of its map.
        IF g.lanes IS NOT NULL THEN
            SELECT v_due || array_agg(n.id) INTO v_due
              FROM (SELECT lane, count(*) AS places FROM unnest(g.lanes) AS l (lane) GROUP BY lane) l
             CROSS JOIN unnest(muster_leave_lane(l.lane, l.places)) AS n (id);
        END IF;
        IF g.gates IS NOT NULL OR g.spoiled IS NOT NULL THEN
            SELECT * INTO v_lowered FROM muster_lower_gates(g.run, g.gates, g.spoiled);
            SELECT * INTO v_given FROM muster_give_places(
                g.run, v_due || v_lowered.due, g.places, g.tells OR v_lowered.asks);
        ELSE
            SELECT * INTO v_given FROM muster_give_places(g.run, v_due, g.places, g.tells);
        END IF;
        v_sent := v_sent || v_given.due;
        IF v_given.asks THEN
            RETURN QUERY SELECT 'advance', g.run, NULL::uuid, NULL::integer;
        END IF;
    END LOOP;
    -- What few of them do, and all would pay for in the statement above.
    IF 'delegation' = ANY (p_waits) THEN
        PERFORM muster_stand_below(p_tenant, v_mine, p_agent_runs, p_added);
    END IF;
    IF 'batch' = ANY (p_waits) THEN
        -- It may have been answered before its step came to wait.
        UPDATE agent_run a SET due_at = clock_timestamp()
         WHERE a.id = ANY (v_mine) AND a.status = 'waiting' AND a.waiting_for = 'batch' AND NOT EXISTS (
               SELECT FROM llm_call l JOIN batched_call b ON b.id = l.id AND NOT b.is_given_up
                WHERE l.agent_run_id = a.id AND l.status = 'open');
    END IF;
    PERFORM muster_count_in_flight(p_tenant, -v_places);
    IF v_sent IS NOT NULL THEN
        RETURN QUERY SELECT * FROM muster_queue(v_sent);
    ELSIF v_places > 0 AND muster_is_waiting(p_tenant) THEN
        RETURN QUERY SELECT * FROM muster_refill(p_tenant);
    END IF;
    -- Budgets come last: whoever locks them waits for nothing more.
    IF v_doubted IS NOT NULL THEN
        PERFORM muster_settle_calls(v_doubted, v_holds, v_holds);
    END IF;
END $$;

-- Totals of agent runs from their calls, those of lost attempts included.
CREATE FUNCTION muster_sum_calls(p_agent_runs uuid[]) RETURNS void LANGUAGE sql AS $$
    UPDATE agent_run ar
       SET llm_calls = s.calls, input_tokens = s.input, output_tokens = s.output,
           cached_tokens = s.cached, reasoning_tokens = s.reasoning, cost_nano = s.cost,
           provider = COALESCE(s.provider, ar.provider), model = COALESCE(s.model, ar.model)
      FROM (SELECT c.agent_run_id, count(*) AS calls, sum(c.input_tokens) AS input,
                   sum(c.output_tokens) AS output, sum(c.cached_tokens) AS cached,
                   sum(c.reasoning_tokens) AS reasoning, sum(c.cost_nano) AS cost,
                   (array_agg(c.provider ORDER BY c.created_at DESC))[1] AS provider,
                   (array_agg(COALESCE(NULLIF(c.answered_model, ''), c.model) ORDER BY c.created_at DESC))[1] AS model
              FROM llm_call c WHERE c.agent_run_id = ANY (p_agent_runs) GROUP BY c.agent_run_id) s
     -- The array too, since a plan by the sums alone would read all of a tenant's agent runs.
     WHERE ar.id = s.agent_run_id AND ar.id = ANY (p_agent_runs)
$$;

-- Opens the run's lock for `advance`: starts a pending run, clears the wish before anything is
-- read, and tells how far the run is (see `core.scheduling.Progress`).
CREATE FUNCTION muster_begin_advance(p_tenant uuid, p_run uuid)
RETURNS TABLE (version_id uuid, stop_wanted text, stop_reason text, statuses jsonb, unsettled jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    SELECT x.status, x.version_id, x.stop_wanted, x.stop_reason INTO r
      FROM run x WHERE x.id = p_run FOR NO KEY UPDATE;
    IF NOT FOUND THEN RETURN; END IF;
    IF r.status = 'pending' AND r.stop_wanted = '' AND NOT muster_take_turn(p_tenant, p_run) THEN
        RETURN;
    ELSIF r.status = 'paused' AND r.stop_wanted <> '' THEN
        NULL;  -- It is to end all the same.
    ELSIF r.status NOT IN ('pending', 'running') THEN
        RETURN;
    END IF;
    UPDATE run x SET advance_wanted = false, status = 'running',
           started_at = COALESCE(x.started_at, clock_timestamp()), updated_at = clock_timestamp()
     WHERE x.id = p_run;
    IF r.status = 'pending' THEN
        PERFORM muster_event(p_tenant, p_run, NULL, 'run.started', '{}');
    END IF;
    -- Gates of the plan belong to `adaptive`; those of maps have negative numbers.
    IF EXISTS (SELECT FROM gate g WHERE g.run_id = p_run AND g.number >= 0) THEN
        RETURN QUERY SELECT r.version_id, r.stop_wanted::text, r.stop_reason,
            (SELECT jsonb_object_agg(a.step, a.status) FROM agent_run a
              WHERE a.run_id = p_run AND a.parent_id IS NULL AND a.status <> 'pending'), NULL::jsonb;
        RETURN;
    END IF;
    RETURN QUERY SELECT r.version_id, r.stop_wanted::text, r.stop_reason,
        (SELECT jsonb_object_agg(a.step, a.status) FROM agent_run a
          WHERE a.run_id = p_run AND a.parent_id IS NULL
            AND (a.status IN ('failed', 'skipped', 'cancelled', 'budget_exceeded')
                 -- What has begun beside what is pending: maps and loops, or what a retry has kept.
                 OR (a.status <> 'pending' AND a.level IN (
                     SELECT b.level FROM agent_run b
                      WHERE b.run_id = p_run AND b.parent_id IS NULL AND b.status = 'pending')))),
        (SELECT jsonb_object_agg(l.level, l.states) FROM (
            SELECT g.level, jsonb_object_agg(g.status, g.n) AS states FROM (
                SELECT a.level, a.status, count(*) AS n FROM agent_run a
                 WHERE a.run_id = p_run AND a.parent_id IS NULL AND a.status NOT IN
                       ('completed', 'failed', 'skipped', 'cancelled', 'budget_exceeded')
                 GROUP BY a.level, a.status) g GROUP BY g.level) l);
END $$;

-- Ends steps that never ran: skipped, or failed (with p_code) because their condition did, or what
-- they were to ask.
CREATE FUNCTION muster_settle_steps(
    p_tenant uuid, p_run uuid, p_status text, p_steps text[], p_reasons text[],
    p_code text DEFAULT 'condition_error')
RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
DECLARE
    v_spoiled integer[];
    v_lowered record;
BEGIN
    DELETE FROM ready_agent_run q
     WHERE q.run_id = p_run
       AND q.agent_run_id IN (SELECT a.id FROM agent_run a WHERE a.run_id = p_run AND a.step = ANY (p_steps));
    WITH settled AS (
        UPDATE agent_run a SET status = p_status, status_reason = s.reason,
               error = CASE WHEN p_status = 'failed' THEN
                   jsonb_build_object('code', p_code, 'message', s.reason) END,
               finished_at = clock_timestamp(), updated_at = clock_timestamp()
          FROM unnest(p_steps, p_reasons) AS s (step, reason)
         WHERE a.run_id = p_run AND a.step = s.step AND a.status IN ('pending', 'ready')
        RETURNING a.id, a.step, a.gates, s.reason),
    told AS (
        INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
        SELECT p_tenant, p_run, id, clock_timestamp(), 'agent.' || p_status,
               jsonb_build_object('step', step, 'reason', reason) FROM settled)
    SELECT array_agg(n.number) INTO v_spoiled FROM settled s CROSS JOIN unnest(s.gates) AS n (number);
    IF v_spoiled IS NULL THEN RETURN; END IF;
    SELECT * INTO v_lowered FROM muster_lower_gates(p_run, NULL, v_spoiled);
    IF v_lowered.asks AND muster_want_advance(p_run) THEN
        RETURN QUERY SELECT 'advance', p_run, NULL::uuid, NULL::integer;
    END IF;
END $$;

-- Lets a pending step wait for what p_reason says; after p_seconds it goes on by itself.
CREATE FUNCTION muster_start_wait(
    p_tenant uuid, p_run uuid, p_step text, p_reason text, p_seconds double precision)
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    a record;
BEGIN
    UPDATE agent_run x
       SET status = 'waiting', waiting_for = p_reason, tells = true,
           due_at = clock_timestamp() + make_interval(secs => p_seconds),
           started_at = clock_timestamp(), updated_at = clock_timestamp()
     WHERE x.run_id = p_run AND x.step = p_step AND x.status = 'pending'
    RETURNING x.id, x.due_at INTO a;
    IF a.id IS NOT NULL THEN
        PERFORM muster_event(p_tenant, p_run, a.id, 'agent.waiting', jsonb_strip_nulls(
            jsonb_build_object('step', p_step, 'reason', p_reason, 'until', a.due_at)));
    END IF;
    RETURN a.id;
END $$;

-- Calls back what no worker has begun; gives the number of agent runs still at work. What no
-- one had begun to hand out ends as p_pending says.
CREATE FUNCTION muster_stop_steps(p_tenant uuid, p_run uuid, p_pending text, p_reason text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_running bigint;
    v_queued bigint;
BEGIN
    DELETE FROM ready_agent_run WHERE run_id = p_run;
    -- A statement of its own: in the order of all locks, and against who is just starting sub-workflows.
    PERFORM 1 FROM agent_run a
      WHERE a.run_id = p_run AND (a.status IN ('pending', 'ready', 'queued', 'waiting')
                                  OR (a.status = 'running' AND a.kind = 'workflow'))
      ORDER BY a.id FOR NO KEY UPDATE;
    WITH stopped AS (
        UPDATE agent_run a
           SET status = CASE a.status WHEN 'pending' THEN p_pending ELSE 'cancelled' END,
               status_reason = p_reason, waiting_for = '', due_at = NULL,
               finished_at = clock_timestamp(), updated_at = clock_timestamp()
         WHERE a.run_id = p_run AND (a.status IN ('pending', 'ready', 'queued', 'waiting')
               -- What stands for others is no work of its own, nor is a run that nobody has started.
               OR (a.status = 'running' AND (a.kind IN ('map', 'loop', 'steps') OR (a.kind = 'workflow'
                   AND NOT EXISTS (SELECT FROM run c WHERE c.parent_agent_run_id = a.id)))))
        RETURNING a.id, a.step, a.status, a.kind, a.attempt, a.attempt_started_at,
                  old.status = 'queued' AS was_queued),
    tried AS (
        INSERT INTO attempt (id, tenant_id, agent_run_id, number, worker, outcome, started_at, finished_at)
        SELECT uuidv7(), p_tenant, s.id, s.attempt, '', 'cancelled', s.attempt_started_at, clock_timestamp()
          FROM stopped s WHERE s.kind IN ('map', 'loop', 'steps', 'workflow') AND s.attempt > 0
        -- One that had not begun again since it was taken up.
        ON CONFLICT DO NOTHING),
    told AS (
        INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
        SELECT p_tenant, p_run, id, clock_timestamp(), 'agent.' || status,
               jsonb_build_object('step', step, 'reason', p_reason) FROM stopped)
    SELECT count(*) INTO v_queued FROM stopped WHERE was_queued;
    PERFORM muster_count_in_flight(p_tenant, -v_queued);
    -- What goes on asks `advance` when it ends, since no step follows from it. In a run with a
    -- window the last one does so by itself, and whoever ends one may be waiting for the run's lock.
    IF (SELECT r.window IS NULL FROM run r WHERE r.id = p_run) THEN
        PERFORM 1 FROM agent_run a WHERE a.run_id = p_run AND a.status = 'running' AND NOT a.tells
          ORDER BY a.id FOR NO KEY UPDATE;
    END IF;
    UPDATE agent_run SET in_chord = false, tells = true
     WHERE id = ANY (ARRAY(SELECT a.id FROM agent_run a
                            WHERE a.run_id = p_run AND a.status = 'running' AND NOT a.tells
                              FOR NO KEY UPDATE SKIP LOCKED));
    -- A statement of its own: it has to see the claims that the updates above waited for.
    SELECT count(*) INTO v_running FROM agent_run WHERE run_id = p_run AND status = 'running';
    UPDATE run SET in_flight = v_running WHERE id = p_run AND "window" IS NOT NULL;
    RETURN v_running;
END $$;

-- Hands out the pending agent runs of a level: as members of a chord if all have a place in the
-- window and in the tenant's share, else through the lane of the run. A window that is fixed holds whatever the level.
CREATE FUNCTION muster_queue_level(
    p_tenant uuid, p_run uuid, p_level integer, p_window integer, p_is_fixed boolean)
RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
DECLARE
    v_due uuid[];
BEGIN
    SELECT array_agg(a.id) INTO v_due FROM agent_run a
     WHERE a.run_id = p_run AND a.level = p_level AND a.status = 'pending' AND a.parent_id IS NULL;
    IF cardinality(v_due) <= LEAST(p_window, muster_room(p_tenant)) AND NOT p_is_fixed
       AND NOT muster_is_waiting(p_tenant) THEN
        UPDATE run SET "window" = NULL WHERE id = p_run AND "window" IS NOT NULL;
        RETURN QUERY SELECT * FROM muster_send(p_tenant, v_due, true);
    ELSE
        UPDATE run SET "window" = p_window WHERE id = p_run;
        RETURN QUERY SELECT * FROM muster_top_up(p_tenant, p_run, v_due);
    END IF;
END $$;

-- Hands out p_due and what lies ready, after counting what is in flight anew: places that no
-- finishing step has handed on.
CREATE FUNCTION muster_top_up(p_tenant uuid, p_run uuid, p_due uuid[])
RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
DECLARE
    v_window integer;
BEGIN
    UPDATE run r
       SET in_flight = (SELECT count(*) FROM agent_run a
                         WHERE a.run_id = p_run
                           AND (a.status = 'queued' OR a.lease_until IS NOT NULL))
                     + (SELECT count(*) FROM ready_agent_run q
                         WHERE q.run_id = p_run AND q.lane = p_tenant)
     WHERE r.id = p_run RETURNING r.window INTO v_window;
    IF v_window IS NULL THEN
        -- Ready since the run stood still.
        RETURN QUERY SELECT * FROM muster_queue(muster_leave_lane(p_run, NULL));
    END IF;
    IF v_window IS NOT NULL OR p_due <> '{}' THEN
        RETURN QUERY SELECT * FROM muster_hand_out(p_run, p_due);
    END IF;
END $$;

-- Hands out steps whose own needs allow it, and whatever else is due in the run.
CREATE FUNCTION muster_queue_steps(p_tenant uuid, p_run uuid, p_steps text[])
RETURNS SETOF muster_hint LANGUAGE sql AS $$
    SELECT h.* FROM muster_top_up(p_tenant, p_run, ARRAY(
        SELECT a.id FROM agent_run a
         WHERE a.run_id = p_run AND a.step = ANY (p_steps) AND a.status = 'pending')) h
$$;

-- Begins a map: an agent run for each item, p_parallel of them at a time. Taken up again, it has
-- those run that did not complete. Items that no worker takes are left to `advance` to begin.
-- p_reason says why it goes over fewer items than there are, and how many p_left_out.
CREATE FUNCTION muster_begin_map(
    p_tenant uuid, p_run uuid, p_step text, p_items json, p_parallel bigint, p_reason text, p_left_out integer)
RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
DECLARE
    v_map record;
    v_gate integer;
    v_due uuid[];
BEGIN
    UPDATE agent_run a
       SET status = 'running', kind = 'map', status_reason = p_reason, attempt = a.attempt + 1,
           updated_at = clock_timestamp(),
           attempt_started_at = clock_timestamp(), started_at = COALESCE(a.started_at, clock_timestamp())
     WHERE a.run_id = p_run AND a.step = p_step AND a.status = 'pending'
    RETURNING a.*, old.kind AS item_kind INTO v_map;
    IF v_map.id IS NULL THEN RETURN; END IF;
    PERFORM muster_event(p_tenant, p_run, v_map.id, 'agent.running',
        jsonb_strip_nulls(jsonb_build_object('step', p_step, 'attempt', v_map.attempt,
            'items', json_array_length(p_items), 'left_out', NULLIF(p_left_out, 0),
            'reason', NULLIF(p_reason, ''))));
    IF NOT EXISTS (SELECT FROM agent_run a WHERE a.run_id = p_run AND a.parent_id = v_map.id) THEN
        IF v_map.item_kind = 'agent' THEN
            SELECT COALESCE(LEAST(min(g.number), 0), 0) - 1 INTO v_gate FROM gate g WHERE g.run_id = p_run;
            INSERT INTO gate (tenant_id, run_id, number, "left", steps, tells)
            VALUES (p_tenant, p_run, v_gate, json_array_length(p_items), '{}', true);
        END IF;
        INSERT INTO agent_run (id, tenant_id, run_id, parent_id, step, item_index, item, position,
                               level, kind, priority, reads, reads_input, agent, uses_model, is_heavy,
                               provider, model, role, timeout_seconds, gates, tells, added_by)
        SELECT uuidv7(), p_tenant, p_run, v_map.id, p_step || '[' || i.number - 1 || ']', i.number - 1,
               i.value, v_map.position, v_map.level, v_map.item_kind, v_map.priority, v_map.reads,
               v_map.reads_input, v_map.agent, v_map.uses_model, v_map.is_heavy, v_map.provider, v_map.model,
               v_map.role, v_map.timeout_seconds, array_remove(ARRAY[v_gate], NULL), v_gate IS NULL,
               v_map.added_by
          FROM json_array_elements(p_items) WITH ORDINALITY AS i (value, number);
    END IF;
    SELECT array_agg(x.id ORDER BY x.item_index) INTO v_due
      FROM (SELECT a.id, a.item_index FROM agent_run a
             WHERE a.run_id = p_run AND a.parent_id = v_map.id AND a.status = 'pending'
               AND a.kind = 'agent' ORDER BY a.item_index) x;
    WITH late AS (
        UPDATE agent_run a SET status = 'ready' WHERE a.id = ANY (v_due[p_parallel + 1:])
        RETURNING a.id, a.priority, a.item_index)
    INSERT INTO ready_agent_run (lane, tenant_id, run_id, urgency, deadline, position, agent_run_id)
    SELECT v_map.id, p_tenant, p_run, 10 - l.priority, 0, l.item_index, l.id FROM late l;
    RETURN QUERY SELECT * FROM muster_hand_out(p_run, v_due[:p_parallel]);
END $$;

-- The maps of a run that are at work, and how their items stand.
CREATE FUNCTION muster_open_maps(p_run uuid)
RETURNS TABLE (agent_run_id uuid, step text, attempt integer, reason text, unsettled bigint, pending bigint,
               at_work bigint)
LANGUAGE sql AS $$
    SELECT m.id, m.step, m.attempt, m.status_reason,
           count(*) FILTER (WHERE i.status IN ('pending', 'ready', 'queued', 'running', 'waiting')),
           count(*) FILTER (WHERE i.status = 'pending'),
           count(*) FILTER (WHERE i.status IN ('queued', 'running', 'waiting'))
      FROM agent_run m LEFT JOIN agent_run i ON i.run_id = m.run_id AND i.parent_id = m.id
     WHERE m.run_id = p_run AND m.status = 'running' AND m.kind = 'map'
     GROUP BY m.id, m.step, m.attempt, m.status_reason, m.position, m.item_index ORDER BY m.position, m.item_index
$$;

-- Begins a loop, which no worker claims either.
CREATE FUNCTION muster_begin_loop(p_tenant uuid, p_run uuid, p_step text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_loop record;
BEGIN
    UPDATE agent_run a
       SET status = 'running', attempt = a.attempt + 1, updated_at = clock_timestamp(),
           attempt_started_at = clock_timestamp(), started_at = COALESCE(a.started_at, clock_timestamp())
     WHERE a.run_id = p_run AND a.step = p_step AND a.status = 'pending' AND a.kind = 'loop'
    RETURNING a.id, a.attempt INTO v_loop;
    IF v_loop.id IS NOT NULL THEN
        PERFORM muster_event(p_tenant, p_run, v_loop.id, 'agent.running',
            jsonb_build_object('step', p_step, 'attempt', v_loop.attempt));
    END IF;
END $$;

-- Adds the steps of a loop's round, or those that an agent run wants added. Each tells `advance` of
-- its end.
CREATE FUNCTION muster_add_round(p_tenant uuid, p_run uuid, p_loop uuid, p_round integer, p_steps json)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO agent_run (id, tenant_id, run_id, parent_id, item_index, step, position, level, kind,
                           priority, reads, reads_input, agent, uses_model, is_heavy, provider, model, role,
                           timeout_seconds, tells, added_by)
    SELECT uuidv7(), p_tenant, p_run, p_loop, p_round, s.step, l.position, l.level, s.kind,
           LEAST(GREATEST(s.priority + r.priority - 5, 0), 10), s.reads, s.reads_input, s.agent,
           s.uses_model, s.is_heavy, COALESCE(s.provider, ''), COALESCE(s.model, ''), COALESCE(s.role, ''),
           s.timeout_seconds, true, CASE l.kind WHEN 'steps' THEN l.id ELSE l.added_by END
      FROM run r JOIN agent_run l ON l.run_id = r.id AND l.id = p_loop,
           json_to_recordset(p_steps) AS s (
               step text, kind text, priority smallint, reads text[], reads_input boolean, agent text,
               uses_model boolean, is_heavy boolean, provider text, model text, role text,
               timeout_seconds int)
     WHERE r.id = p_run
    ON CONFLICT DO NOTHING;
END $$;

-- The loops of a run that are at work, and how the steps of their newest round stand; and likewise
-- the agent runs that stand for steps which they have added.
CREATE FUNCTION muster_open_loops(p_run uuid)
RETURNS TABLE (agent_run_id uuid, step text, kind text, attempt integer, round integer, statuses jsonb)
LANGUAGE sql AS $$
    SELECT l.id, l.step, l.kind, l.attempt, n.round, n.statuses
      FROM agent_run l
     CROSS JOIN LATERAL (
           SELECT max(s.item_index) AS round,
                  jsonb_object_agg(s.step, s.status) FILTER (WHERE s.status <> 'pending') AS statuses
             FROM agent_run s
            WHERE s.parent_id = l.id AND s.item_index = (
                  SELECT x.item_index FROM agent_run x WHERE x.parent_id = l.id
                   ORDER BY x.item_index DESC LIMIT 1)) n
     WHERE l.run_id = p_run AND l.status = 'running' AND l.kind IN ('loop', 'steps')
     ORDER BY l.position, l.item_index
$$;

-- The steps that an agent run has added to its run; workers keep them, since they never change.
CREATE FUNCTION muster_added_steps(p_tenant uuid, p_agent_run uuid)
RETURNS TABLE (step text, added json) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    RETURN QUERY SELECT a.step::text, a.added FROM agent_run a
                  WHERE a.id = p_agent_run AND a.added IS NOT NULL;
END $$;

-- The agent run that has delegated the steps which p_stands stands for goes on, and finds in its tool
-- calls what came of them: p_results has an output or an error for each call.
CREATE FUNCTION muster_take_up(p_tenant uuid, p_run uuid, p_stands uuid, p_turn integer, p_results json)
RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
DECLARE
    a record;
BEGIN
    SELECT x.id, x.forgiven INTO a FROM agent_run x
     WHERE x.id = (SELECT s.parent_id FROM agent_run s WHERE s.id = p_stands)
       AND x.status = 'waiting' AND x.waiting_for = 'delegation' FOR NO KEY UPDATE;
    IF NOT FOUND THEN RETURN; END IF;
    WITH ended AS (
        UPDATE tool_call t
           SET status = CASE WHEN r.error IS NULL THEN 'finished' ELSE 'failed' END,
               output = r.output, error = r.error, ended_at = clock_timestamp()
          FROM json_to_recordset(p_results) AS r (call text, output json, error text)
         WHERE t.agent_run_id = a.id AND t.turn = p_turn AND t.call = r.call
           AND t.attempt > a.forgiven AND t.status = 'running'
        RETURNING t.attempt, t.turn, t.tool, t.status)
    INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
    SELECT p_tenant, p_run, a.id, clock_timestamp(), 'tool_call.' || e.status,
           jsonb_build_object('attempt', e.attempt, 'turn', e.turn, 'tool', e.tool)
      FROM ended e;
    UPDATE agent_run SET due_at = clock_timestamp() WHERE id = a.id;
    RETURN QUERY SELECT * FROM muster_hand_out(p_run, ARRAY[a.id]);
END $$;

-- Counts steps that are to be added to a run. False: these would be more than it may have.
CREATE FUNCTION muster_count_added(p_tenant uuid, p_run uuid, p_steps integer, p_most integer)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE run SET added_steps = added_steps + p_steps
     WHERE id = p_run AND added_steps + p_steps <= p_most;
    RETURN FOUND;
END $$;

-- Begins a step that another run stands for, which `services.children` starts after the commit;
-- taken up again, the step has its run taken up.
CREATE FUNCTION muster_begin_call(p_tenant uuid, p_run uuid, p_step text)
RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
DECLARE
    v_step record;
    v_child record;
BEGIN
    UPDATE agent_run a
       SET status = 'running', attempt = a.attempt + 1, updated_at = clock_timestamp(),
           attempt_started_at = clock_timestamp(), started_at = COALESCE(a.started_at, clock_timestamp())
     WHERE a.run_id = p_run AND a.step = p_step AND a.status = 'pending' AND a.kind = 'workflow'
    RETURNING a.id, a.attempt INTO v_step;
    IF v_step.id IS NULL THEN RETURN; END IF;
    PERFORM muster_event(p_tenant, p_run, v_step.id, 'agent.running',
        jsonb_build_object('step', p_step, 'attempt', v_step.attempt));
    SELECT c.id, c.deadline_seconds INTO v_child FROM run c WHERE c.parent_agent_run_id = v_step.id;
    IF muster_retry_run(p_tenant, v_child.id, v_child.deadline_seconds, 'Its parent run was retried') THEN
        RETURN QUERY SELECT 'advance', v_child.id, NULL::uuid, NULL::integer;
    END IF;
END $$;

-- The sub-workflows of a run that have ended while their steps have not.
CREATE FUNCTION muster_ended_calls(p_run uuid)
RETURNS TABLE (agent_run_id uuid, step text, attempt integer, status text, reason text, output json,
               cost_nano bigint, is_called_back boolean)
LANGUAGE sql AS $$
    SELECT a.id, a.step, a.attempt, c.status, c.status_reason, c.output, c.cost_nano,
           a.status_reason <> ''
      FROM agent_run a JOIN run c ON c.parent_agent_run_id = a.id
     WHERE a.run_id = p_run AND a.status = 'running' AND a.kind = 'workflow'
       AND c.status NOT IN ('pending', 'running', 'paused')
     ORDER BY a.position, a.item_index
       -- Against a late answer that corrects its cost.
       FOR SHARE OF c
$$;

-- Has the sub-workflows of a run end with it. Their steps keep the reason: so ended, they have
-- not failed.
CREATE FUNCTION muster_stop_calls(p_tenant uuid, p_run uuid, p_reason text)
RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
DECLARE
    v_child uuid;
BEGIN
    FOR v_child IN SELECT c.id FROM muster_called_runs(p_run) AS c (id) LOOP
        IF muster_stop_run(p_tenant, v_child, 'cancelled', p_reason) THEN
            UPDATE agent_run SET status_reason = p_reason
             WHERE id = (SELECT c.parent_agent_run_id FROM run c WHERE c.id = v_child);
            RETURN QUERY SELECT 'advance', v_child, NULL::uuid, NULL::integer;
        END IF;
    END LOOP;
END $$;

-- Asks `advance` for the run whose step p_run stands for, if p_run has ended. Not in the
-- transaction that ends it: runs are locked from the outside in.
CREATE FUNCTION muster_tell_parent(p_tenant uuid, p_run uuid)
RETURNS SETOF muster_hint LANGUAGE plpgsql AS $$
DECLARE
    v_parent uuid;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    SELECT a.run_id INTO v_parent FROM run c JOIN agent_run a ON a.id = c.parent_agent_run_id
     WHERE c.id = p_run AND c.status NOT IN ('pending', 'running', 'paused');
    IF v_parent IS NOT NULL AND muster_want_advance(v_parent) THEN
        RETURN QUERY SELECT 'advance', v_parent, NULL::uuid, NULL::integer;
    END IF;
END $$;

-- Ends a run whose steps are all settled: its cost is summed up.
CREATE FUNCTION muster_finish_run(p_tenant uuid, p_run uuid, p_status text, p_reason text, p_output json)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_cost bigint;
BEGIN
    SELECT COALESCE(sum(cost_nano), 0) INTO v_cost FROM agent_run WHERE run_id = p_run;
    DELETE FROM ready_agent_run WHERE run_id = p_run;
    UPDATE run SET status = p_status, status_reason = p_reason, output = p_output, cost_nano = v_cost,
           in_flight = 0, stop_wanted = '', stop_reason = '', advance_wanted = false,
           finished_at = clock_timestamp(), updated_at = clock_timestamp()
     WHERE id = p_run AND status = 'running';
    PERFORM muster_event(p_tenant, p_run, NULL, 'run.' || p_status,
        jsonb_build_object('reason', p_reason, 'cost_nano', v_cost));
END $$;

-- Has a live run end as p_status, once nothing is at work any more. False: it was to end already.
CREATE FUNCTION muster_stop_run(p_tenant uuid, p_run uuid, p_status text, p_reason text)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    UPDATE run SET stop_wanted = p_status, stop_reason = p_reason, updated_at = clock_timestamp(),
           advance_wanted = true, advance_wanted_at = clock_timestamp()
     WHERE id = p_run AND status IN ('pending', 'running', 'paused') AND stop_wanted = '';
    IF NOT FOUND THEN RETURN false; END IF;
    PERFORM muster_event(p_tenant, p_run, NULL, 'run.stopping',
        jsonb_build_object('status', p_status, 'reason', p_reason));
    RETURN true;
END $$;

-- The live runs that steps of a run stand for.
CREATE FUNCTION muster_called_runs(p_run uuid) RETURNS SETOF uuid LANGUAGE sql AS $$
    SELECT c.id FROM agent_run a JOIN run c ON c.parent_agent_run_id = a.id
     WHERE a.run_id = p_run AND a.status = 'running' AND a.kind = 'workflow'
       AND c.status IN ('pending', 'running', 'paused') ORDER BY c.id
$$;

-- Calls back what is queued, or waits for the tenant's share, into the lane of its run.
CREATE FUNCTION muster_call_back(p_tenant uuid, p_run uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_due uuid[];
    v_queued uuid[];
BEGIN
    WITH back AS (DELETE FROM ready_agent_run q WHERE q.run_id = p_run AND q.lane = p_tenant
                  RETURNING q.agent_run_id)
    SELECT array_agg(agent_run_id) INTO v_due FROM back;
    v_queued := ARRAY(SELECT a.id FROM agent_run a WHERE a.run_id = p_run AND a.status = 'queued'
                       ORDER BY a.id FOR NO KEY UPDATE);
    PERFORM muster_make_ready(v_due || v_queued);
    PERFORM muster_count_in_flight(p_tenant, -cardinality(v_queued));
END $$;

-- Hands out nothing more: what is queued goes back, what a worker has begun goes on.
CREATE FUNCTION muster_pause_run(p_tenant uuid, p_run uuid, p_reason text)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    UPDATE run SET status = 'paused', status_reason = p_reason, paused_for = '', updated_at = clock_timestamp()
     WHERE id = p_run AND status IN ('pending', 'running') AND stop_wanted = '';
    IF NOT FOUND THEN RETURN false; END IF;
    PERFORM muster_call_back(p_tenant, p_run);
    -- What was a chord's no longer is: its end asks `advance`.
    UPDATE agent_run SET in_chord = false, tells = true
     WHERE run_id = p_run AND in_chord AND status = 'running';
    PERFORM muster_event(p_tenant, p_run, NULL, 'run.paused', jsonb_build_object('reason', p_reason));
    PERFORM muster_pause_run(p_tenant, c.id, p_reason) FROM muster_called_runs(p_run) AS c (id);
    RETURN true;
END $$;

-- Tells people of a run that was paused for its spend and asks them: in the audit log, and by an alert.
CREATE FUNCTION muster_tell_of_pause(
    p_tenant uuid, p_run uuid, p_kind text, p_spent bigint, p_facts jsonb, p_mails boolean)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM muster_note('run.paused', 'run', p_run::text, p_facts);
    INSERT INTO cost_alert (id, tenant_id, kind, run_id, period, spent_nano, limit_nano, mail_due_at)
    VALUES (uuidv7(), p_tenant, p_kind, p_run, to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
            p_spent, (p_facts ->> 'limit_nano')::bigint, CASE WHEN p_mails THEN clock_timestamp() END);
END $$;

-- Lets a paused run go on, and the sub-workflows below it; gives those for which `advance` is to be
-- published, none if it was not paused.
CREATE FUNCTION muster_resume_run(p_tenant uuid, p_run uuid, p_reason text)
RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    v_status text;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    -- One that had not begun has its turn to wait for.
    UPDATE run SET status = CASE WHEN started_at IS NULL THEN 'pending' ELSE 'running' END,
           status_reason = '', waits_for_turn = false, updated_at = clock_timestamp(),
           -- A person's yes to what it was paused for.
           paused_for = '', asked_roles = '{}', answer_due_at = NULL,
           spend_agreed_at = CASE paused_for WHEN 'spend' THEN clock_timestamp() ELSE spend_agreed_at END,
           advance_wanted = true, advance_wanted_at = clock_timestamp()
     WHERE id = p_run AND status = 'paused' RETURNING status INTO v_status;
    IF v_status IS NULL THEN RETURN; END IF;
    -- Queued by who had not seen the pause: workers have refused their messages.
    PERFORM muster_call_back(p_tenant, p_run);
    -- How long it stood still is held against no step's `max_wait`.
    UPDATE agent_run SET waiting_since = clock_timestamp()
     WHERE id = ANY (ARRAY(SELECT a.id FROM agent_run a
                            WHERE a.run_id = p_run AND a.status = 'waiting' AND a.waiting_since IS NOT NULL
                            ORDER BY a.id FOR NO KEY UPDATE));
    PERFORM muster_event(p_tenant, p_run, NULL, 'run.resumed',
        jsonb_build_object('reason', p_reason, 'status', v_status));
    RETURN NEXT p_run;
    -- One that asks for itself waits for those whom it asks.
    RETURN QUERY SELECT x.id FROM muster_called_runs(p_run) AS c (id)
      JOIN run r ON r.id = c.id AND r.paused_for <> 'ask'
     CROSS JOIN LATERAL muster_resume_run(p_tenant, c.id, p_reason) AS x (id);
END $$;

-- Takes an ended run up again: what did not complete is pending once more, and what did is kept,
-- with all its parts.
CREATE FUNCTION muster_retry_run(p_tenant uuid, p_run uuid, p_deadline_seconds integer, p_reason text)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    -- How many go on without the answers they have paid for, since these are not kept any more.
    v_anew bigint;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    UPDATE run SET status = 'running', status_reason = '', output = NULL, finished_at = NULL,
           waits_for_turn = false, paused_for = '', rungs = '{}', asked_roles = '{}', answer_due_at = NULL,
           deadline_at = clock_timestamp() + make_interval(secs => p_deadline_seconds),
           updated_at = clock_timestamp(), advance_wanted = true, advance_wanted_at = clock_timestamp()
     WHERE id = p_run AND status IN ('failed', 'partially_completed', 'cancelled', 'budget_exceeded');
    IF NOT FOUND THEN RETURN false; END IF;
    -- They tell, chord or not: a message from before may claim them, which no chord counts.
    WITH RECURSIVE again AS (
        SELECT a.id, a.kind, CASE a.status WHEN 'failed' THEN a.attempt ELSE a.forgiven END AS forgiven
          FROM agent_run a
         WHERE a.run_id = p_run AND a.parent_id IS NULL
           AND a.status IN ('failed', 'skipped', 'cancelled', 'budget_exceeded')
        UNION ALL
        SELECT a.id, a.kind, CASE a.status WHEN 'failed' THEN a.attempt ELSE a.forgiven END
          FROM again w JOIN agent_run a ON a.parent_id = w.id
         WHERE a.status IN ('failed', 'skipped', 'cancelled', 'budget_exceeded')
           -- An agent that begins anew asks nobody for what it had delegated before.
           AND (w.kind <> 'agent' OR (a.added ->> 'forgiven')::integer = w.forgiven)),
    taken AS (
        UPDATE agent_run a
           SET status = 'pending', status_reason = '', error = NULL, output = NULL, finished_at = NULL,
               in_chord = false, tells = true, updated_at = clock_timestamp(),
               -- What did not fail goes on with the answers that it has paid for.
               forgiven = CASE status WHEN 'failed' THEN attempt ELSE forgiven END,
               lost_count = CASE status WHEN 'failed' THEN 0 ELSE lost_count END,
               spared = CASE status WHEN 'failed' THEN 0 ELSE spared END,
               waits_on = '', waiting_since = NULL
         WHERE a.id IN (SELECT w.id FROM again w)
        RETURNING a.kind = 'agent' AND a.attempt > 0 AND a.forgiven = a.attempt AND old.status <> 'failed'
                  AS begins_anew)
    SELECT NULLIF(count(*) FILTER (WHERE t.begins_anew), 0) INTO v_anew FROM taken t;
    PERFORM muster_event(p_tenant, p_run, NULL, 'run.retried',
        jsonb_strip_nulls(jsonb_build_object('reason', p_reason, 'begin_anew', v_anew)));
    -- Who has added steps has done its own part, and stands for them once more.
    WITH standing AS (
        UPDATE agent_run
           SET status = 'running', attempt = attempt + 1, attempt_started_at = clock_timestamp()
         WHERE run_id = p_run AND status = 'pending' AND kind = 'steps'
        RETURNING id, step, attempt)
    INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
    SELECT p_tenant, p_run, s.id, clock_timestamp(), 'agent.running',
           jsonb_build_object('step', s.step, 'attempt', s.attempt) FROM standing s;
    -- Who has delegated steps waits for them once more. Were it run again instead, these might end
    -- while it goes through its turns, and nobody would tell it.
    WITH waiting AS (
        UPDATE agent_run a SET status = 'waiting', waiting_for = 'delegation'
         WHERE a.status = 'pending' AND a.kind = 'agent'
           AND a.id = ANY (ARRAY(SELECT s.parent_id FROM agent_run s
                                  WHERE s.run_id = p_run AND s.status = 'running' AND s.kind = 'steps'))
        RETURNING a.id, a.step, a.attempt)
    INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
    SELECT p_tenant, p_run, w.id, clock_timestamp(), 'agent.waiting',
           jsonb_build_object('step', w.step, 'attempt', w.attempt, 'reason', 'delegation') FROM waiting w;
    -- Which steps a gate starts is no longer a matter of counting alone.
    UPDATE gate SET tells = true, steps = '{}', "left" = 0 WHERE run_id = p_run;
    UPDATE gate g SET "left" = n.times
      FROM (SELECT x.number, count(*) AS times FROM agent_run a CROSS JOIN unnest(a.gates) AS x (number)
             WHERE a.run_id = p_run AND a.status <> 'completed' GROUP BY x.number) n
     WHERE g.run_id = p_run AND g.number = n.number;
    RETURN true;
END $$;

-- Renews the leases that a worker process holds, across tenants, hence with its owner's rights;
-- it can do no more than move the lease of an attempt whose number the caller knows. No lease
-- outlives its step's time by more than the grace that a thread has to notice it. A lease of no
-- length hands the attempt over: it has run out at the beginning of time, which none does by itself.
CREATE FUNCTION muster_renew_leases(
    p_worker text, p_agent_runs uuid[], p_attempts integer[], p_lease interval, p_grace interval)
RETURNS TABLE (id uuid, attempt integer, is_stopping boolean)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    WITH mine AS MATERIALIZED (
        SELECT x.id FROM agent_run x WHERE x.id = ANY (p_agent_runs) AND x.status = 'running'
         ORDER BY x.run_id, x.id FOR NO KEY UPDATE)
    UPDATE agent_run a
       SET lease_until = CASE WHEN p_lease > interval '0' THEN LEAST(clock_timestamp() + p_lease,
               a.attempt_started_at + make_interval(secs => a.timeout_seconds) + p_grace) ELSE 'epoch' END
      FROM mine, unnest(p_agent_runs, p_attempts) AS held (id, attempt), run r
     WHERE a.id = mine.id AND a.id = held.id AND a.attempt = held.attempt AND a.worker = p_worker
       AND a.status = 'running' AND r.id = a.run_id
    -- For want of money nothing is cut short: what is under way is held in the budgets.
    RETURNING a.id, a.attempt, r.stop_wanted NOT IN ('', 'budget_exceeded')
$$;
REVOKE EXECUTE ON FUNCTION muster_renew_leases(text, uuid[], integer[], interval, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_renew_leases(text, uuid[], integer[], interval, interval)
    TO muster_app, muster_system;

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
            WHEN 'paused' THEN ARRAY['pending', 'running', 'failed', 'cancelled', 'budget_exceeded']
            WHEN 'completed' THEN ARRAY[]::text[]
            ELSE ARRAY['running'] END;
    ELSE
        allowed := CASE OLD.status
            WHEN 'pending' THEN ARRAY['ready', 'queued', 'running', 'waiting', 'skipped', 'failed',
                                      'cancelled']
            WHEN 'ready' THEN ARRAY['queued', 'running', 'waiting', 'skipped', 'failed',
                                    'cancelled', 'budget_exceeded']
            WHEN 'queued' THEN ARRAY['ready', 'running', 'waiting', 'skipped', 'failed',
                                     'cancelled', 'budget_exceeded']
            WHEN 'running' THEN ARRAY['ready', 'queued', 'waiting', 'completed', 'failed',
                                      'cancelled', 'budget_exceeded']
            WHEN 'waiting' THEN ARRAY['ready', 'queued', 'completed', 'skipped', 'failed',
                                      'cancelled', 'budget_exceeded']
            WHEN 'completed' THEN ARRAY[]::text[]
            ELSE ARRAY['pending'] END;
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
