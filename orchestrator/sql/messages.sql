-- What agents of a run tell each other. Numbers of messages are in the order of commits, since whoever
-- sends has the run's tally until its commit: so a reader that has seen a number has seen all before it.
-- The tally comes after the agent runs; who has it waits for nothing more. What only these functions
-- call goes by the settings of its caller.

-- Whether an attempt may still do something, with its row locked against another attempt: `lost` if it
-- holds its agent run no more, `stopping` if its run is to end, else null.
CREATE FUNCTION muster_fence(p_agent_run uuid, p_attempt integer, OUT verdict text, OUT run uuid,
                             OUT forgiven integer)
LANGUAGE plpgsql AS $$
DECLARE
    v_stopping boolean;
BEGIN
    -- No join, as in muster_claim_all.
    SELECT x.run_id, x.forgiven, (SELECT r.stop_wanted <> '' FROM run r WHERE r.id = x.run_id)
      INTO run, forgiven, v_stopping
      FROM agent_run x
     WHERE x.id = p_agent_run AND x.attempt = p_attempt AND x.status = 'running'
       AND x.lease_until > clock_timestamp() FOR NO KEY UPDATE;
    verdict := CASE WHEN NOT FOUND THEN 'lost' WHEN v_stopping THEN 'stopping' END;
END $$;

-- Locks the tallies of runs, in their order, made where there are none yet.
CREATE FUNCTION muster_tally(p_tenant uuid, p_runs uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_found bigint;
BEGIN
    SELECT count(*) INTO v_found
      FROM (SELECT FROM run_tally t WHERE t.run_id = ANY (p_runs)
             ORDER BY t.run_id FOR NO KEY UPDATE) x;
    IF v_found = cardinality(p_runs) THEN RETURN; END IF;
    INSERT INTO run_tally (run_id, tenant_id)
    SELECT r.id, p_tenant FROM unnest(p_runs) AS r (id) ORDER BY r.id ON CONFLICT DO NOTHING;
    PERFORM FROM run_tally t WHERE t.run_id = ANY (p_runs) ORDER BY t.run_id FOR NO KEY UPDATE;
END $$;

-- Sends messages of several threads of a worker together: `sent`, with the number and the receiver. One
-- is not taken if its attempt holds its agent run no more (`lost`), its run is to end (`stopping`),
-- there is no such receiver (`no_receiver`, `no_message`), the receiver has ended (`receiver_ended`) or
-- has p_inbox unread ones (`receiver_full`), or the run has p_most (`run_full`). A call that has sent
-- before gets what it got then. They go one after the other: one statement for all of them takes twice
-- as long, be they many or one. Without statistics of a young table the planner would sort all that a
-- receiver ever got, hence no bitmaps.
CREATE FUNCTION muster_send_messages(p_tenant uuid, p_messages json, p_most integer, p_inbox integer)
RETURNS TABLE (number bigint, verdict text, id uuid, place bigint, correlation uuid, run uuid,
               receiver uuid)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_bitmapscan = off AS $$
DECLARE
    k record;
    v_senders uuid[] := ARRAY(SELECT DISTINCT (x ->> 'sender')::uuid FROM json_array_elements(p_messages) x);
    v_runs uuid[];
    v_run uuid;
    v_last bigint;
    v_is_live boolean;
    v_received bigint; -- by its receiver alone, before this one
    v_taken bigint; -- of these
    v_has_sent boolean := false;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    SELECT array_agg(DISTINCT x.run_id) INTO v_runs
      FROM (SELECT a.run_id FROM agent_run a WHERE a.id = ANY (v_senders)
             ORDER BY a.run_id, a.id FOR NO KEY UPDATE) x;
    IF v_runs IS NOT NULL THEN PERFORM muster_tally(p_tenant, v_runs); END IF;
    FOR k IN
        SELECT f.*, s.run_id, s.is_stopping
          FROM ROWS FROM (json_to_recordset(p_messages) AS (
                   sender uuid, attempt integer, call uuid, id uuid, places text[], reply_to uuid,
                   topic text, capability text, type text, priority smallint, content json
               )) WITH ORDINALITY AS f
          LEFT JOIN LATERAL (
               SELECT a.run_id, (SELECT r.stop_wanted <> '' FROM run r WHERE r.id = a.run_id) AS is_stopping
                 FROM agent_run a
                WHERE a.id = f.sender AND a.attempt = f.attempt AND a.status = 'running'
                  AND a.lease_until > clock_timestamp() LIMIT 1) s ON true
         ORDER BY f.ordinality
    LOOP
        number := k.ordinality; run := k.run_id;
        IF run IS NULL OR k.is_stopping THEN
            verdict := CASE WHEN run IS NULL THEN 'lost' ELSE 'stopping' END;
            id := NULL; place := NULL; correlation := NULL; receiver := NULL;
            RETURN NEXT;
            CONTINUE;
        END IF;
        SELECT x.id, x.number, x.correlation_id, x.receiver_id, 'known'
          INTO id, place, correlation, receiver, verdict
          FROM agent_message x WHERE x.sender_id = k.sender AND x.call = k.call;
        IF FOUND THEN
            RETURN NEXT;
            CONTINUE;
        END IF;
        id := k.id; correlation := k.id;
        IF k.reply_to IS NOT NULL THEN
            SELECT x.sender_id, x.correlation_id INTO receiver, correlation
              FROM agent_message x WHERE x.id = k.reply_to AND x.run_id = k.run_id;
            IF NOT FOUND THEN verdict := 'no_message'; END IF;
        ELSIF k.places IS NOT NULL THEN
            -- The first of the places that there is: names are local.
            FOR n IN 1 .. cardinality(k.places) LOOP
                SELECT a.id INTO receiver FROM agent_run a
                 WHERE a.run_id = k.run_id AND a.step = k.places[n];
                EXIT WHEN FOUND;
            END LOOP;
            IF receiver IS NULL THEN verdict := 'no_receiver'; END IF;
        END IF;
        v_received := NULL;
        IF receiver IS NOT NULL THEN
            SELECT a.finished_at IS NULL, COALESCE(i.inbox_number, 0),
                   COALESCE((SELECT s.direct_taken FROM message_place s WHERE s.agent_run_id = a.id), 0)
              INTO v_is_live, v_received, v_taken
              FROM agent_run a
              LEFT JOIN LATERAL (SELECT x.inbox_number FROM agent_message x WHERE x.receiver_id = a.id
                                  ORDER BY x.number DESC LIMIT 1) i ON true
             WHERE a.id = receiver;
            verdict := CASE WHEN NOT v_is_live THEN 'receiver_ended'
                            WHEN v_received - v_taken >= p_inbox THEN 'receiver_full' END;
        END IF;
        IF v_run IS DISTINCT FROM run THEN
            v_run := run;
            SELECT COALESCE(max(x.number), 0) INTO v_last FROM agent_message x WHERE x.run_id = v_run;
        END IF;
        verdict := COALESCE(verdict, CASE WHEN v_last < p_most THEN 'sent' ELSE 'run_full' END);
        IF verdict = 'sent' THEN
            v_last := v_last + 1; place := v_last; v_has_sent := true;
            INSERT INTO agent_message (id, tenant_id, run_id, number, sender_id, call, receiver_id,
                                       inbox_number, topic, capability, type, priority, correlation_id,
                                       content, created_at)
            VALUES (k.id, p_tenant, k.run_id, v_last, k.sender, k.call, receiver,
                    v_received + 1, k.topic, k.capability, k.type, k.priority, correlation,
                    k.content, clock_timestamp());
        END IF;
        RETURN NEXT;
    END LOOP;
    IF v_has_sent THEN
        UPDATE run_tally t
           SET messages = (SELECT COALESCE(max(x.number), 0) FROM agent_message x
                            WHERE x.run_id = t.run_id)
         WHERE t.run_id = ANY (v_runs);
    END IF;
END $$;

-- Which unread messages an agent gets now, the most urgent first; notes how far it has read. The same
-- call gets the same again. Urgency counts among the p_window oldest that it has not read, of those to
-- it alone and of those to several.
CREATE FUNCTION muster_take(
    p_tenant uuid, p_run uuid, p_agent_run uuid, p_forgiven integer, p_call uuid, p_most integer,
    p_bytes integer, p_types text[], p_correlation uuid, p_capabilities text[], p_window integer,
    OUT given bigint[], OUT is_all boolean)
LANGUAGE plpgsql AS $$
DECLARE
    p message_place;
    v_last bigint;
    v_direct bigint[];
    v_common bigint[];
    v_left_direct bigint[] := '{}';
    v_left_common bigint[] := '{}';
    v_seen bigint;
BEGIN
    is_all := false;
    SELECT ARRAY(SELECT json_array_elements_text(e.effect)::bigint) INTO given FROM call_effect e
     WHERE e.agent_run_id = p_agent_run AND e.call = p_call;
    IF FOUND THEN RETURN; END IF;
    given := '{}';
    SELECT t.messages INTO v_last FROM run_tally t WHERE t.run_id = p_run;
    IF NOT FOUND THEN RETURN; END IF;
    SELECT s.* INTO p FROM message_place s WHERE s.agent_run_id = p_agent_run;
    IF NOT FOUND OR p.forgiven <> p_forgiven THEN
        p.direct_seen := 0; p.direct_left := '{}'; p.common_seen := 0; p.common_left := '{}';
        p.direct_taken := 0; p.taken := COALESCE(p.taken, 0);
    END IF;
    v_direct := p.direct_left || ARRAY(
        SELECT m.number FROM agent_message m
         WHERE m.receiver_id = p_agent_run AND m.number > p.direct_seen AND m.number <= v_last
         ORDER BY m.number LIMIT GREATEST(0, p_window - cardinality(p.direct_left)));
    v_common := p.common_left || ARRAY(
        SELECT m.number FROM agent_message m
         WHERE m.run_id = p_run AND m.receiver_id IS NULL
           AND m.number > p.common_seen AND m.number <= v_last
           AND m.sender_id <> p_agent_run
           AND (m.topic = '' AND m.capability = '' OR m.capability = ANY (p_capabilities)
                OR m.topic <> '' AND EXISTS (
                   SELECT FROM message_subscription s
                    WHERE s.agent_run_id = p_agent_run AND s.topic IN ('', m.topic)))
         ORDER BY m.number LIMIT GREATEST(0, p_window - cardinality(p.common_left)));
    given := ARRAY(
        SELECT y.number
          FROM (SELECT x.number, x.rank, sum(octet_length(x.content::text)) OVER (ORDER BY x.rank) AS bytes
                  FROM (SELECT m.number, m.content,
                               row_number() OVER (ORDER BY m.priority DESC, m.number) AS rank
                          FROM agent_message m
                         WHERE m.run_id = p_run AND m.number = ANY (v_direct || v_common)
                           AND (p_types = '{}' OR m.type = ANY (p_types))
                           AND (p_correlation IS NULL OR m.correlation_id = p_correlation)
                         ORDER BY m.priority DESC, m.number LIMIT p_most) x) y
         WHERE y.rank = 1 OR y.bytes <= p_bytes ORDER BY y.rank);
    v_seen := CASE WHEN cardinality(v_common) < p_window THEN v_last
                   ELSE GREATEST(p.common_seen, v_common[p_window]) END;
    -- Whoever waits looks often: what it has passed by, it passes by once.
    IF given = '{}' AND v_seen - p.common_seen < p_window THEN RETURN; END IF;
    is_all := cardinality(given) = cardinality(v_direct) + cardinality(v_common);
    IF NOT is_all THEN
        v_left_direct := ARRAY(SELECT unnest(v_direct) EXCEPT SELECT unnest(given) ORDER BY 1);
        v_left_common := ARRAY(SELECT unnest(v_common) EXCEPT SELECT unnest(given) ORDER BY 1);
    END IF;
    INSERT INTO message_place AS s (tenant_id, run_id, agent_run_id, forgiven, direct_seen, direct_left,
                                    direct_taken, common_seen, common_left, taken)
    VALUES (p_tenant, p_run, p_agent_run, p_forgiven,
            CASE WHEN cardinality(v_direct) < p_window THEN v_last
                 ELSE GREATEST(p.direct_seen, v_direct[p_window]) END,
            v_left_direct, p.direct_taken + cardinality(v_direct) - cardinality(v_left_direct),
            v_seen, v_left_common, p.taken + cardinality(given))
    ON CONFLICT (agent_run_id, tenant_id) DO UPDATE
       SET forgiven = excluded.forgiven, direct_seen = excluded.direct_seen,
           direct_left = excluded.direct_left, direct_taken = excluded.direct_taken,
           common_seen = excluded.common_seen, common_left = excluded.common_left, taken = excluded.taken;
    -- A call that got nothing looks again.
    IF given = '{}' THEN RETURN; END IF;
    INSERT INTO call_effect (tenant_id, run_id, agent_run_id, call, effect)
    VALUES (p_tenant, p_run, p_agent_run, p_call, array_to_json(given));
END $$;

-- Gives unread messages to several threads of a worker: one row for each message, with the number of
-- its reader, and whether it has nothing left unread then. A row without a message has the verdict on an
-- attempt that holds its agent run no more (`lost`), or whose run is to end (`stopping`).
CREATE FUNCTION muster_take_messages(p_tenant uuid, p_readers json, p_window integer)
RETURNS TABLE (reader bigint, verdict text, is_all boolean, number bigint, id uuid, sender text,
               type text, topic text, priority smallint, correlation uuid, content json, sent_at timestamptz,
               conditions text[])
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_bitmapscan = off AS $$
DECLARE
    k record;
    f record;
    t record;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    FOR k IN
        SELECT w.* FROM ROWS FROM (json_to_recordset(p_readers) AS (
                   run uuid, agent_run uuid, attempt integer, call uuid, most integer, bytes integer,
                   types text[], correlation uuid, capabilities text[])) WITH ORDINALITY AS w
         ORDER BY w.run, w.agent_run, w.ordinality
    LOOP
        SELECT * INTO f FROM muster_fence(k.agent_run, k.attempt);
        IF f.verdict IS NOT NULL THEN
            RETURN QUERY SELECT k.ordinality, f.verdict, false, NULL::bigint, NULL::uuid, NULL, NULL, NULL,
                                NULL::smallint, NULL::uuid, NULL::json, NULL::timestamptz, NULL::text[];
            CONTINUE;
        END IF;
        SELECT * INTO t FROM muster_take(p_tenant, f.run, k.agent_run, f.forgiven, k.call, k.most, k.bytes,
                                         k.types, k.correlation, k.capabilities, p_window);
        IF t.given = '{}' THEN CONTINUE; END IF;
        RETURN QUERY
        SELECT k.ordinality, 'read', t.is_all, m.number, m.id, a.step::text, m.type::text, m.topic::text,
               m.priority, m.correlation_id, m.content, m.created_at,
               CASE WHEN m.topic <> '' THEN
                   ARRAY(SELECT s.condition FROM message_subscription s
                          WHERE s.agent_run_id = k.agent_run AND s.topic IN ('', m.topic)) END
          FROM unnest(t.given) WITH ORDINALITY AS g (number, rank)
         CROSS JOIN LATERAL (SELECT x.* FROM agent_message x
                              WHERE x.run_id = f.run AND x.number = g.number LIMIT 1) m
         CROSS JOIN LATERAL (SELECT y.step FROM agent_run y WHERE y.id = m.sender_id LIMIT 1) a
         ORDER BY g.rank;
    END LOOP;
END $$;

-- Has messages of a topic (or of any) reach an agent where a condition holds; those of the past that it
-- passed by, too. False if it has p_most subscriptions.
CREATE FUNCTION muster_subscribe(
    p_tenant uuid, p_agent_run uuid, p_attempt integer, p_topic text, p_condition text, p_most integer,
    p_window integer)
RETURNS text
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_bitmapscan = off AS $$
DECLARE
    f record;
    v_had text[];
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    SELECT * INTO f FROM muster_fence(p_agent_run, p_attempt);
    IF f.verdict IS NOT NULL THEN RETURN f.verdict; END IF;
    v_had := ARRAY(SELECT s.topic::text FROM message_subscription s WHERE s.agent_run_id = p_agent_run);
    IF cardinality(v_had) >= p_most THEN RETURN 'full'; END IF;
    INSERT INTO message_subscription (tenant_id, run_id, agent_run_id, topic, condition)
    VALUES (p_tenant, f.run, p_agent_run, p_topic, p_condition) ON CONFLICT DO NOTHING;
    UPDATE message_place s
       SET common_left = ARRAY(
               SELECT n FROM (
                   SELECT unnest(s.common_left) AS n
                   UNION
                   (SELECT m.number FROM agent_message m
                     WHERE m.run_id = f.run AND m.receiver_id IS NULL AND m.number <= s.common_seen
                       AND m.sender_id <> p_agent_run AND m.topic <> '' AND p_topic IN ('', m.topic)
                       -- What another subscription brought, it has seen.
                       AND NOT m.topic = ANY (v_had) AND NOT '' = ANY (v_had)
                     ORDER BY m.number DESC LIMIT p_window)) x
                ORDER BY n DESC LIMIT p_window)
     WHERE s.agent_run_id = p_agent_run AND s.forgiven = f.forgiven;
    RETURN 'subscribed';
END $$;
