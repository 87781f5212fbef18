-- Calls that are made together, in batches of their providers'. Locks are taken batch first, then as
-- everywhere: runs, agent runs, calls, budgets.

-- Where the call stands that was put into a batch for a turn of an agent run: `batched`, with the
-- `seconds` that its step waits for it at most; or `failed`, with its error, which is told once: then, or
-- where there is none, the turn is to be asked anew (NULL). Only that last one counts, and once its time
-- is over, nobody waits for it any more.
CREATE FUNCTION muster_batched_turn(p_agent_run uuid, p_turn integer, p_forgiven integer) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    c record;
    v_left double precision;
BEGIN
    SELECT l.id, l.status, l.error, l.provider, l.model INTO c FROM llm_call l
     WHERE l.agent_run_id = p_agent_run AND l.turn = p_turn AND l.attempt > p_forgiven
       AND l.batch_id IS NOT NULL ORDER BY l.attempt DESC, l.id DESC LIMIT 1;
    IF NOT FOUND THEN RETURN NULL; END IF;
    IF c.status = 'open' THEN
        SELECT extract(epoch FROM b.until - clock_timestamp()) INTO v_left
          FROM batched_call b WHERE b.id = c.id AND NOT b.is_given_up;
        IF v_left > 0 THEN
            RETURN jsonb_build_object('what', 'batched', 'seconds', v_left, 'provider', c.provider);
        ELSIF v_left IS NOT NULL THEN
            UPDATE batched_call b SET is_given_up = true WHERE b.id = c.id;
            c.error := jsonb_build_object('kind', 'timeout', 'detail', 'its batch was not answered in time');
        END IF;
        IF v_left IS NULL THEN RETURN NULL; END IF;
    ELSIF c.status NOT IN ('failed', 'in_doubt') OR c.error ? 'is_told' THEN
        RETURN NULL;
    ELSE
        UPDATE llm_call l SET error = l.error || '{"is_told": true}' WHERE l.id = c.id;
    END IF;
    RETURN jsonb_build_object('what', 'failed', 'error', c.error, 'provider', c.provider, 'model', c.model);
END $$;

-- Sets a call down as muster_open_calls does, but puts it into the batch that its tenant collects for its
-- model and key, for its step to wait for (`batched`). A batch that has so many requests, or is of such
-- a size, takes no more, and is sent after p_collect at the latest.
CREATE FUNCTION muster_open_batched(
    p_tenant uuid, p_call jsonb, p_request json, p_size bigint, p_within interval,
    p_most_requests integer, p_most_size bigint, p_collect interval)
RETURNS TABLE (opened text, reply jsonb, refusal jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    f record;
    v_batch uuid;
    v_run uuid;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    SELECT * INTO f FROM jsonb_to_record(p_call) AS x (
        call uuid, agent_run uuid, attempt integer, turn integer, provider text, model text, credential uuid);
    -- Made where there is none, and locked where there is one.
    INSERT INTO model_batch AS b (id, tenant_id, provider, model, credential_id, due_at)
    VALUES (uuidv7(), p_tenant, f.provider, f.model, f.credential, clock_timestamp() + p_collect)
    ON CONFLICT (tenant_id, provider, model, credential_id) WHERE status = 'collecting'
    DO UPDATE SET updated_at = clock_timestamp() RETURNING b.id INTO v_batch;
    SELECT o.opened, o.reply, o.refusal INTO opened, reply, refusal
      FROM muster_open_calls(p_tenant, jsonb_build_array(p_call)) o;
    IF opened = 'opened' THEN
        opened := 'batched';
        refusal := jsonb_build_object('seconds', extract(epoch FROM p_within), 'provider', f.provider);
        -- Not again, where the connection broke after the commit.
        UPDATE llm_call l SET batch_id = v_batch
         WHERE l.id = f.call AND l.status = 'open' AND l.batch_id IS NULL RETURNING l.run_id INTO v_run;
        IF FOUND THEN
            INSERT INTO batched_call (id, tenant_id, batch_id, run_id, request, until)
            VALUES (f.call, p_tenant, v_batch, v_run, p_request, clock_timestamp() + p_within);
            UPDATE model_batch b
               SET requests = b.requests + 1, size = b.size + p_size,
                   status = CASE WHEN x.is_full THEN 'sending' ELSE b.status END,
                   due_at = CASE WHEN x.is_full THEN clock_timestamp() ELSE b.due_at END
              FROM (SELECT y.requests + 1 >= p_most_requests OR y.size + p_size >= p_most_size AS is_full
                      FROM model_batch y WHERE y.id = v_batch) x
             WHERE b.id = v_batch;
            PERFORM muster_event(p_tenant, v_run, f.agent_run, 'llm_call.batched', jsonb_build_object(
                'attempt', f.attempt, 'turn', f.turn, 'provider', f.provider, 'model', f.model,
                'batch_id', v_batch));
        END IF;
    END IF;
    RETURN NEXT;
END $$;

-- Takes what is due of the batches of all tenants in hand, for p_lease: to be sent, looked for, asked for.
CREATE FUNCTION muster_take_batches(p_most integer, p_lease interval)
RETURNS TABLE (id uuid, tenant_id uuid, provider text, model text, credential_id uuid, status text,
               vendor_id text, lease_until timestamptz, sent_at timestamptz, tries integer,
               is_cancelling boolean, is_too_old boolean, uses_environment boolean)
LANGUAGE sql AS $$
    UPDATE model_batch b SET lease_until = clock_timestamp() + p_lease
     WHERE b.id = ANY (ARRAY(
           SELECT x.id FROM model_batch x
            WHERE x.status <> 'ended' AND x.due_at < clock_timestamp()
              AND (x.lease_until IS NULL OR x.lease_until < clock_timestamp())
            ORDER BY x.due_at LIMIT p_most FOR NO KEY UPDATE SKIP LOCKED))
    RETURNING b.id, b.tenant_id, b.provider, b.model, b.credential_id, b.status, b.vendor_id, b.lease_until,
              b.sent_at, b.tries, b.cancel_asked_at IS NOT NULL,
              -- A provider is done with a batch after a day, one way or another.
              COALESCE(b.submitted_at, b.sent_at) < clock_timestamp() - interval '26 hours',
              (SELECT t.uses_environment_credentials FROM tenant t WHERE t.id = b.tenant_id)
$$;

-- Writes what has come of a batch that is in hand; what p_next does not name stays. `due_in` gives it out
-- of hand for so many seconds. False if it is in other hands by now.
CREATE FUNCTION muster_note_batch(p_tenant uuid, p_batch uuid, p_lease timestamptz, p_next jsonb)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    UPDATE model_batch b
       SET status = COALESCE(p_next ->> 'status', b.status),
           vendor_id = COALESCE(p_next ->> 'vendor_id', b.vendor_id),
           requests = COALESCE((p_next ->> 'requests')::integer, b.requests),
           tries = COALESCE((p_next ->> 'tries')::integer, b.tries),
           error = COALESCE(p_next ->> 'error', b.error),
           sent_at = CASE (p_next ->> 'is_sent')::boolean WHEN true THEN clock_timestamp()
                          WHEN false THEN NULL ELSE b.sent_at END,
           submitted_at = CASE WHEN p_next ->> 'status' = 'working' THEN clock_timestamp() ELSE b.submitted_at END,
           cancel_asked_at = CASE WHEN (p_next ->> 'is_cancelling')::boolean THEN clock_timestamp()
                                  ELSE b.cancel_asked_at END,
           ended_at = CASE WHEN p_next ->> 'status' = 'ended' THEN clock_timestamp() END,
           due_at = clock_timestamp() + make_interval(secs => COALESCE((p_next ->> 'due_in')::float, 0)),
           lease_until = CASE WHEN p_next ? 'due_in' THEN NULL ELSE b.lease_until END,
           updated_at = clock_timestamp()
     WHERE b.id = p_batch AND b.lease_until = p_lease
       -- What is sent has to be known to have come in, or not, before anybody else looks for it.
       AND b.lease_until > clock_timestamp()
           + CASE WHEN (p_next ->> 'is_sent')::boolean THEN interval '5 minutes' ELSE interval '0' END;
    RETURN FOUND;
END $$;

-- The calls of a batch that have not ended, and whether somebody waits for them: not a step that has
-- ended, or has been answered otherwise.
CREATE FUNCTION muster_batched_calls(p_tenant uuid, p_batch uuid)
RETURNS TABLE (id uuid, request json, prices jsonb, hold bigint, is_wanted boolean)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    RETURN QUERY
    SELECT b.id, b.request, c.unit_prices, c.hold_nano,
           NOT b.is_given_up AND a.finished_at IS NULL AND NOT EXISTS (
               SELECT FROM llm_call x WHERE x.agent_run_id = c.agent_run_id AND x.turn = c.turn
                  AND x.tool_call_id IS NULL AND x.status = 'closed' AND x.attempt > a.forgiven)
      FROM batched_call b
     CROSS JOIN LATERAL (SELECT * FROM llm_call l WHERE l.id = b.id LIMIT 1) c
     CROSS JOIN LATERAL (SELECT * FROM agent_run x WHERE x.id = c.agent_run_id LIMIT 1) a
     WHERE b.batch_id = p_batch ORDER BY b.id;
END $$;

-- Whether anybody waits for any of them.
CREATE FUNCTION muster_batch_is_wanted(p_tenant uuid, p_batch uuid) RETURNS boolean LANGUAGE sql AS $$
    SELECT COALESCE(bool_or(c.is_wanted), false) FROM muster_batched_calls(p_tenant, p_batch) c
$$;

-- Ends a call of a batch and charges it, whatever has become of its step and run meanwhile: what they
-- cost follows. Has the step go on, if it waits for a batch.
CREATE FUNCTION muster_end_batched(p_tenant uuid, p_answer jsonb) RETURNS SETOF muster_hint
LANGUAGE plpgsql AS $$
DECLARE
    v_call uuid := (p_answer ->> 'call')::uuid;
    c record;
    v_hold bigint;
    v_cost bigint;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    SELECT l.run_id, l.agent_run_id INTO c FROM llm_call l WHERE l.id = v_call;
    IF NOT FOUND THEN RETURN; END IF;
    PERFORM muster_treat_again(p_tenant, v_call);
    PERFORM 1 FROM run r WHERE r.id = c.run_id FOR NO KEY UPDATE;
    PERFORM 1 FROM agent_run a WHERE a.id = c.agent_run_id FOR NO KEY UPDATE;
    SELECT l.hold_nano INTO v_hold FROM llm_call l WHERE l.id = v_call AND l.status = 'open' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        DELETE FROM batched_call b WHERE b.id = v_call;
        RETURN;
    END IF;
    SELECT e.cost_nano INTO v_cost FROM muster_write_ends(ARRAY[v_call], jsonb_build_array(p_answer)) e;
    PERFORM muster_charge(ARRAY[v_call],
        ARRAY[CASE p_answer ->> 'status' WHEN 'closed' THEN 'call' ELSE p_answer ->> 'status' END], ARRAY[v_cost]);
    DELETE FROM batched_call b WHERE b.id = v_call;
    PERFORM muster_sum_calls(ARRAY[c.agent_run_id]);
    PERFORM muster_correct_run(c.run_id, v_cost);
    UPDATE agent_run a SET due_at = clock_timestamp()
     WHERE a.id = c.agent_run_id AND a.status = 'waiting' AND a.waiting_for = 'batch';
    IF FOUND THEN
        RETURN QUERY SELECT * FROM muster_hand_out(c.run_id, ARRAY[c.agent_run_id]);
    END IF;
    -- Budgets come last: whoever locks them waits for nothing more.
    PERFORM muster_settle_calls(ARRAY[v_call], ARRAY[v_hold], ARRAY[v_cost]);
END $$;

-- Forgets batches that ended long ago, of all tenants; how many of at most so many there were.
CREATE FUNCTION muster_forget_batches(p_most integer) RETURNS bigint LANGUAGE sql AS $$
    WITH old AS MATERIALIZED (
        SELECT b.id FROM model_batch b WHERE b.ended_at < clock_timestamp() - interval '30 days'
         LIMIT p_most FOR UPDATE SKIP LOCKED),
    gone AS (DELETE FROM model_batch b USING old WHERE b.id = old.id RETURNING 1)
    SELECT count(*) FROM gone
$$;

REVOKE EXECUTE ON FUNCTION muster_take_batches(integer, interval), muster_forget_batches(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_take_batches(integer, interval), muster_forget_batches(integer)
    TO muster_system;
