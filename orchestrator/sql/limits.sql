-- What the limiter asks of the rows when Redis has forgotten it. Those that look over all tenants
-- run as their owner, for whichever worker notices first, and tell ids and sums alone.

-- Calls that are under way, to put their places back. An agent run that ended a moment ago may
-- have one still. Those in batches have none.
CREATE FUNCTION muster_limits_open_calls()
RETURNS TABLE (call_id uuid, tenant_id uuid, project_id uuid, workflow_id uuid, agent text,
               provider text, model text, credential_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT c.id, r.tenant_id, r.project_id, r.workflow_id, c.agent, c.provider, c.model, c.credential_id
      FROM run r
     CROSS JOIN LATERAL (
        SELECT l.id, a.agent::text, l.provider::text, l.model::text, l.credential_id
          FROM agent_run a JOIN llm_call l ON l.agent_run_id = a.id AND l.status = 'open' AND l.batch_id IS NULL
         WHERE a.run_id = r.id OFFSET 0) c
     WHERE r.status IN ('pending', 'running', 'paused')
        OR r.finished_at > clock_timestamp() - interval '10 minutes'
$$;

-- For how long no call can have been let through: since the last run ended, or not at all.
CREATE FUNCTION muster_limits_idle()
RETURNS interval
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT CASE WHEN EXISTS (SELECT FROM run WHERE status IN ('pending', 'running', 'paused'))
                THEN interval '0'
                ELSE COALESCE(clock_timestamp() - max(x.finished_at), interval '100 years') END
      FROM tenant t CROSS JOIN LATERAL (
        SELECT r.finished_at FROM run r WHERE r.tenant_id = t.id AND r.finished_at IS NOT NULL
         ORDER BY r.finished_at DESC LIMIT 1) x
$$;

-- What a tenant's calls took since a time; NULL stands for any.
CREATE FUNCTION muster_limits_used(p_tenant uuid, p_since timestamptz, p_project uuid,
    p_workflow uuid, p_agent text, p_credential uuid, p_provider text, p_model text,
    OUT requests bigint, OUT input_tokens bigint, OUT output_tokens bigint,
    OUT total_tokens bigint, OUT uncached_input_tokens bigint)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    SELECT count(DISTINCT c.call_id), COALESCE(sum(c.input_tokens), 0),
           COALESCE(sum(c.output_tokens), 0), COALESCE(sum(c.input_tokens + c.output_tokens), 0),
           COALESCE(sum(c.input_tokens - c.cached_tokens), 0)
      INTO requests, input_tokens, output_tokens, total_tokens, uncached_input_tokens
      FROM cost_entry c
     WHERE c.tenant_id = p_tenant AND c.at >= p_since
       AND (p_project IS NULL OR c.project_id = p_project)
       AND (p_workflow IS NULL OR c.workflow_id = p_workflow)
       AND (p_agent IS NULL OR c.agent = p_agent)
       AND (p_credential IS NULL OR EXISTS (
            SELECT FROM llm_call l WHERE l.id = c.call_id AND l.credential_id = p_credential))
       AND (p_provider IS NULL OR c.provider = p_provider)
       AND (p_model IS NULL OR c.model = p_model);
END $$;

-- The same of all tenants together, or of their calls with the operator's keys.
CREATE FUNCTION muster_limits_used_by_all(p_since timestamptz, p_operators_keys boolean,
    p_provider text, p_model text,
    OUT requests bigint, OUT input_tokens bigint, OUT output_tokens bigint,
    OUT total_tokens bigint, OUT uncached_input_tokens bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT count(DISTINCT e.call_id), COALESCE(sum(e.input_tokens), 0),
           COALESCE(sum(e.output_tokens), 0), COALESCE(sum(e.input_tokens + e.output_tokens), 0),
           COALESCE(sum(e.input_tokens - e.cached_tokens), 0)
      FROM tenant t CROSS JOIN LATERAL (
        SELECT c.* FROM cost_entry c
         WHERE c.tenant_id = t.id AND c.at >= p_since
           AND (NOT p_operators_keys OR EXISTS (
                SELECT FROM llm_call l WHERE l.id = c.call_id AND l.credential_id IS NULL))
           AND (p_provider IS NULL OR c.provider = p_provider)
           AND (p_model IS NULL OR c.model = p_model) OFFSET 0) e
$$;

REVOKE EXECUTE ON FUNCTION muster_limits_open_calls(), muster_limits_idle(),
    muster_limits_used_by_all(timestamptz, boolean, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_limits_open_calls(), muster_limits_idle(),
    muster_limits_used_by_all(timestamptz, boolean, text, text) TO muster_app, muster_system;
