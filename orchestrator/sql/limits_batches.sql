-- As in limits.sql, but for calls in batches, which have no places.
CREATE OR REPLACE FUNCTION muster_limits_open_calls()
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
