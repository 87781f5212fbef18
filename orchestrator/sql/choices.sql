-- Which agent takes a step that names a capability. It is chosen once, by the first attempt at it.

-- The step as it was given to an agent by an earlier attempt; null: by none.
CREATE FUNCTION muster_agent_chosen(p_tenant uuid, p_agent_run uuid) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    v_step json;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    -- What had ended is at work again, where a person has had it retried.
    UPDATE agent_choice c SET is_over = false, updated_at = clock_timestamp()
     WHERE c.agent_run_id = p_agent_run RETURNING c.step INTO v_step;
    RETURN v_step;
END $$;

-- Gives an agent run to one of p_agents: who has the fewest agent runs queued or at work, of those
-- who was chosen least often in the last ten minutes (a thousand times at most count), of those the
-- first. p_named has for each how many agent runs name it, p_steps the step with it. Gives the step as
-- it was chosen, by whomever; `verdict` as muster_fence has it.
CREATE FUNCTION muster_choose_agent(
    p_tenant uuid, p_agent_run uuid, p_attempt integer, p_capability text, p_agents text[],
    p_named integer[], p_steps json[], OUT verdict text, OUT step json)
LANGUAGE plpgsql AS $$
DECLARE
    f record;
    v_place integer;
    v_busy jsonb;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    -- Before any row: who comes next sees this choice. Whoever waits here holds nothing yet.
    PERFORM pg_advisory_xact_lock(hashtextextended('muster_choose_agent:' || p_tenant, 0));
    SELECT * INTO f FROM muster_fence(p_agent_run, p_attempt);
    verdict := f.verdict;
    IF verdict IS NOT NULL THEN RETURN; END IF;
    SELECT c.step INTO step FROM agent_choice c WHERE c.agent_run_id = p_agent_run;
    IF FOUND THEN RETURN; END IF;
    UPDATE agent_choice c SET is_over = true, updated_at = clock_timestamp()
     WHERE c.tenant_id = p_tenant AND c.agent = ANY (p_agents) AND NOT c.is_over
       AND (SELECT a.finished_at IS NOT NULL FROM agent_run a WHERE a.id = c.agent_run_id);
    WITH load AS (
        SELECT x.agent, x.place,
               x.named + (SELECT count(*) FROM agent_choice c
                           WHERE c.tenant_id = p_tenant AND c.agent = x.agent AND NOT c.is_over
                             AND (SELECT a.status IN ('queued', 'running') FROM agent_run a
                                   WHERE a.id = c.agent_run_id)) AS busy,
               (SELECT count(*) FROM (
                   SELECT FROM agent_choice c WHERE c.tenant_id = p_tenant AND c.agent = x.agent
                      AND c.created_at > clock_timestamp() - interval '10 minutes' LIMIT 1000) l) AS lately
          FROM unnest(p_agents, p_named) WITH ORDINALITY AS x (agent, named, place))
    SELECT (SELECT l.place FROM load l ORDER BY l.busy, l.lately, l.place LIMIT 1),
           (SELECT jsonb_object_agg(l.agent, l.busy) FROM load l)
      INTO v_place, v_busy;
    step := p_steps[v_place];
    INSERT INTO agent_choice (id, tenant_id, run_id, agent_run_id, capability, agent, step, created_at)
    VALUES (uuidv7(), p_tenant, f.run, p_agent_run, p_capability, p_agents[v_place], step,
            clock_timestamp());
    UPDATE agent_run a
       SET agent = p_agents[v_place], role = COALESCE(p_steps[v_place] ->> 'role', ''),
           provider = COALESCE(p_steps[v_place] ->> 'provider', ''),
           model = COALESCE(p_steps[v_place] ->> 'model', ''),
           uses_model = (p_steps[v_place] ->> 'uses_model')::boolean
     WHERE a.id = p_agent_run;
    PERFORM muster_event(p_tenant, f.run, p_agent_run, 'agent.chosen', jsonb_build_object(
        'step', (SELECT a.step FROM agent_run a WHERE a.id = p_agent_run), 'attempt', p_attempt,
        'capability', p_capability, 'agent', p_agents[v_place], 'busy', v_busy));
END $$;

-- How many agent runs are queued or at work in a tenant by the agents that their steps name; those
-- that were chosen are not among them. From the live runs, whose index is small, to what is theirs.
CREATE FUNCTION muster_agents_named(p_tenant uuid) RETURNS TABLE (agent text, agent_runs bigint)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    RETURN QUERY
    SELECT a.agent::text, count(*)
      FROM run r
     CROSS JOIN LATERAL (
           SELECT x.id, x.agent FROM agent_run x
            WHERE x.run_id = r.id AND x.status IN ('queued', 'running') AND x.kind = 'agent'
              AND x.agent <> '' OFFSET 0) a
     WHERE r.tenant_id = p_tenant AND r.status IN ('running', 'paused')
       AND NOT EXISTS (SELECT FROM agent_choice c WHERE c.agent_run_id = a.id)
     GROUP BY a.agent;
END $$;
