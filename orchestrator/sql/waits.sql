-- What is at work or waits in the live runs, of one tenant and project or of all: the agent runs that
-- a worker holds (`at_work`, named after it), those that wait (named after their limit or budget, if
-- there is one), and the runs that wait as a whole, without an agent run. From the live runs, whose
-- index is small, to what is theirs.
CREATE FUNCTION muster_standing(p_tenant uuid, p_project uuid)
RETURNS TABLE (tenant_id uuid, run_id uuid, agent_run_id uuid, priority smallint, reason text, name text,
               since timestamptz, until timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT r.tenant_id, r.id, s.*
      FROM run r
     CROSS JOIN LATERAL (
        SELECT a.id, a.priority, 'at_work', a.worker, a.attempt_started_at, NULL::timestamptz
          -- OFFSET keeps these a look by run: at times the planner would rather read all agent runs.
          FROM (SELECT * FROM agent_run x WHERE x.run_id = r.id OFFSET 0) a
         WHERE a.lease_until IS NOT NULL
         UNION ALL
        SELECT a.id, a.priority, w.reason, CASE WHEN w.reason = a.waiting_for THEN a.waits_on ELSE '' END,
               COALESCE(CASE WHEN a.status = 'queued' THEN a.queued_at
                             WHEN a.waiting_for IN ('approval', 'delay') AND a.kind <> 'agent' THEN a.started_at
                             ELSE a.waiting_since END, a.updated_at),
               CASE WHEN w.reason = a.waiting_for THEN a.due_at END
          FROM (SELECT * FROM agent_run x WHERE x.run_id = r.id OFFSET 0) a
         CROSS JOIN LATERAL (
               SELECT CASE WHEN a.status = 'queued' THEN 'worker'
                           -- It is over, and nobody wakes it before its run goes on.
                           WHEN r.status = 'paused' AND a.waiting_for <> 'approval'
                                AND a.due_at < clock_timestamp() THEN 'paused'
                           ELSE a.waiting_for END AS reason) w
         WHERE a.status IN ('waiting', 'queued')
         UNION ALL
        SELECT q.agent_run_id, NULL,
               CASE WHEN r.status = 'paused' THEN 'paused' WHEN q.lane = q.tenant_id THEN 'tenant_share'
                    ELSE 'max_parallel' END,
               CASE WHEN r.status <> 'paused' AND q.lane NOT IN (q.tenant_id, q.run_id)
                    THEN 'a place among the items of its map' ELSE '' END,
               q.since, NULL
          FROM ready_agent_run q WHERE q.run_id = r.id
         UNION ALL
        SELECT NULL, NULL,
               CASE WHEN r.status = 'paused' THEN 'paused' WHEN r.waits_for_turn THEN 'turn'
                    ELSE 'control_worker' END,
               '', CASE WHEN r.status = 'paused' THEN r.updated_at ELSE r.created_at END, NULL
         WHERE r.status IN ('pending', 'paused')) s
     WHERE r.status IN ('pending', 'running', 'paused')
       AND (p_tenant IS NULL OR r.tenant_id = p_tenant)
       AND (p_project IS NULL OR r.project_id = p_project)
$$;
REVOKE EXECUTE ON FUNCTION muster_standing(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_standing(uuid, uuid) TO muster_app, muster_system;
