-- Values that agents of a run share or keep for themselves, and their todos. Each function is fenced by
-- the attempt; a call that has done its work gets what it got then.

-- What a call has done: `known` if it has, with what it gave; `lost` and `stopping` as muster_fence has
-- it; null if it may go on, with the run's tally locked.
CREATE FUNCTION muster_begin_effect(p_tenant uuid, p_agent_run uuid, p_attempt integer, p_call uuid,
                                    OUT verdict text, OUT effect json, OUT run uuid)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    SELECT f.verdict, f.run INTO verdict, run FROM muster_fence(p_agent_run, p_attempt) f;
    IF verdict IS NOT NULL THEN RETURN; END IF;
    SELECT e.effect INTO effect FROM call_effect e WHERE e.agent_run_id = p_agent_run AND e.call = p_call;
    IF FOUND THEN verdict := 'known'; RETURN; END IF;
    PERFORM muster_tally(p_tenant, ARRAY[run]);
END $$;

-- Writes the next version of a value: `written`. It is not where the version is not the expected one
-- (`conflict`, with the version that there is) or the run has too many versions or bytes
-- (`full`). Of a key p_kept versions are kept.
CREATE FUNCTION muster_set_context(
    p_tenant uuid, p_agent_run uuid, p_attempt integer, p_call uuid, p_is_private boolean, p_key text,
    p_expected integer, p_value json, p_size integer, p_kept integer, p_most integer,
    p_most_bytes bigint)
RETURNS TABLE (verdict text, effect json, run uuid)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    f record;
    v_space uuid;
    v_version integer;
    -- Of the version that goes as this one comes.
    v_gone integer;
    v_gone_size integer;
BEGIN
    SELECT * INTO f FROM muster_begin_effect(p_tenant, p_agent_run, p_attempt, p_call);
    IF f.verdict IS NOT NULL THEN RETURN QUERY SELECT f.verdict, f.effect, f.run; RETURN; END IF;
    v_space := CASE WHEN p_is_private THEN p_agent_run ELSE f.run END;
    v_version := COALESCE((SELECT v.version FROM context_value v
                            WHERE v.run_id = f.run AND v.namespace = v_space AND v.key = p_key
                            ORDER BY v.version DESC LIMIT 1), 0);
    IF p_expected <> v_version THEN
        RETURN QUERY SELECT 'conflict', to_json(v_version), f.run;
        RETURN;
    END IF;
    SELECT count(*), COALESCE(sum(v.size), 0) INTO v_gone, v_gone_size FROM context_value v
     WHERE v.run_id = f.run AND v.namespace = v_space AND v.key = p_key
       AND v.version = v_version + 1 - p_kept;
    UPDATE run_tally t
       SET context_versions = t.context_versions + 1 - v_gone,
           context_bytes = t.context_bytes + p_size - v_gone_size
     WHERE t.run_id = f.run AND t.context_versions - v_gone < p_most
       AND t.context_bytes + p_size - v_gone_size <= p_most_bytes;
    IF NOT FOUND THEN RETURN QUERY SELECT 'full', NULL::json, f.run; RETURN; END IF;
    DELETE FROM context_value v
     WHERE v.run_id = f.run AND v.namespace = v_space AND v.key = p_key
       AND v.version = v_version + 1 - p_kept;
    INSERT INTO context_value (id, tenant_id, run_id, namespace, key, version, value, size, writer_id,
                               created_at, updated_at)
    VALUES (uuidv7(), p_tenant, f.run, v_space, p_key, v_version + 1, p_value, p_size, p_agent_run,
            clock_timestamp(), clock_timestamp());
    INSERT INTO call_effect (tenant_id, run_id, agent_run_id, call, effect)
    VALUES (p_tenant, f.run, p_agent_run, p_call, to_json(v_version + 1));
    RETURN QUERY SELECT 'written', to_json(v_version + 1), f.run;
END $$;

-- The newest versions of a value, as an agent sees it; nothing where there is none.
CREATE FUNCTION muster_get_context(
    p_tenant uuid, p_run uuid, p_agent_run uuid, p_is_private boolean, p_key text, p_most integer)
RETURNS TABLE (version integer, value json, writer text, written_at timestamptz)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    RETURN QUERY
    SELECT v.version, v.value,
           (SELECT a.step::text FROM agent_run a WHERE a.id = v.writer_id), v.created_at
      FROM context_value v
     WHERE v.run_id = p_run AND v.key = p_key
       AND v.namespace = CASE WHEN p_is_private THEN p_agent_run ELSE p_run END
     ORDER BY v.version DESC LIMIT p_most;
END $$;
