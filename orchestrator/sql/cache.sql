-- Answers that are taken again instead of being asked for: of one tenant, for steps that say so.

-- Takes an answer that was kept under a key for a call of an attempt, and records the call as one that
-- came from the cache: closed, at no cost, without a hold, and without a line in the ledger. `cached`
-- if so, and `missing` if there is none that is young enough. Else as muster_open_calls: `lost`,
-- `stopping`, or `answered`.
CREATE FUNCTION muster_cached_answer(p_tenant uuid, p_call jsonb, p_key text, p_age interval,
    OUT opened text, OUT reply jsonb)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    f record;
    m record;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    SELECT * INTO f FROM jsonb_to_record(p_call) AS x (
        agent_run uuid, attempt integer, call uuid, turn integer, provider text, model text, role text,
        credential uuid, request jsonb);
    PERFORM 1 FROM agent_run a WHERE a.id = f.agent_run FOR NO KEY UPDATE;
    SELECT * INTO m FROM muster_may_open(f.agent_run, f.attempt, f.call, f.turn, 0, NULL);
    IF m.opened = 'opened' THEN
        -- Taken before, over a connection that then broke.
        SELECT 'cached', c.reply INTO opened, reply FROM llm_call c WHERE c.id = f.call;
        RETURN;
    END IF;
    IF m.opened IS NOT NULL THEN opened := m.opened; reply := m.reply; RETURN; END IF;
    SELECT x.reply INTO reply FROM cached_answer x
     WHERE x.tenant_id = p_tenant AND x.key = p_key AND x.expires_at > clock_timestamp()
       AND x.answered_at > clock_timestamp() - p_age AND muster_caches_answers(p_tenant);
    IF NOT FOUND THEN opened := 'missing'; RETURN; END IF;
    INSERT INTO llm_call (id, tenant_id, run_id, agent_run_id, attempt, turn, status, provider, model,
                          answered_model, role, credential_id, request, reply, hold_nano, unit_prices,
                          is_cached, ended_at)
    VALUES (f.call, p_tenant, m.run, f.agent_run, f.attempt, f.turn, 'closed', f.provider, f.model,
            COALESCE(reply ->> 'model', ''), f.role, f.credential, f.request, reply, 0, '{}',
            true, clock_timestamp());
    UPDATE agent_run a SET waiting_since = NULL, waits_on = ''
     WHERE a.id = f.agent_run AND a.waiting_since IS NOT NULL;
    INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
    VALUES (p_tenant, m.run, f.agent_run, clock_timestamp(), 'llm_call.cached',
            jsonb_build_object('attempt', f.attempt, 'turn', f.turn, 'provider', f.provider,
                               'model', f.model));
    opened := 'cached';
END $$;

-- Whether the tenant lets steps take answers again.
CREATE FUNCTION muster_caches_answers(p_tenant uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT COALESCE((SELECT s.caches_answers FROM call_settings s WHERE s.tenant_id = p_tenant), true)
$$;

-- Keeps an answer under a key for so long; a newer one takes the place of an older.
CREATE FUNCTION muster_keep_answer(
    p_tenant uuid, p_key text, p_provider text, p_model text, p_reply jsonb, p_for interval)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    IF NOT muster_caches_answers(p_tenant) THEN RETURN; END IF;
    INSERT INTO cached_answer (id, tenant_id, key, provider, model, reply, answered_at, expires_at)
    VALUES (uuidv7(), p_tenant, p_key, p_provider, p_model, p_reply, clock_timestamp(),
            clock_timestamp() + p_for)
    ON CONFLICT (tenant_id, key) DO UPDATE
       SET reply = EXCLUDED.reply, answered_at = EXCLUDED.answered_at, expires_at = EXCLUDED.expires_at,
           updated_at = clock_timestamp();
END $$;

-- Forgets what has expired, of all tenants; how many of at most so many there were.
CREATE FUNCTION muster_forget_answers(p_most integer) RETURNS bigint LANGUAGE sql AS $$
    WITH old AS MATERIALIZED (
        SELECT x.id FROM cached_answer x WHERE x.expires_at < clock_timestamp()
         ORDER BY x.expires_at LIMIT p_most FOR UPDATE SKIP LOCKED),
    gone AS (DELETE FROM cached_answer x USING old WHERE x.id = old.id RETURNING 1)
    SELECT count(*) FROM gone
$$;

REVOKE EXECUTE ON FUNCTION muster_forget_answers(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_forget_answers(integer) TO muster_system;
