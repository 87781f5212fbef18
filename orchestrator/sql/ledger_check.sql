-- Compares the ledger with everything that sums it up, for the system role: all tenants at once, each
-- rule over whole tables, and all in the snapshot of the one statement that asks. A difference is a
-- fault of ours. `total` counts those of a book, of which the largest p_most are shown.

-- What a call cost against its lines. Each ended call has lines, an open one has none; nor has one
-- that was never made, since its answer came from the cache.
CREATE FUNCTION muster_check_calls(p_most integer)
RETURNS TABLE (rule text, tenant_id uuid, object_id uuid, run_id uuid, expected bigint, found bigint,
               detail text, total bigint)
LANGUAGE sql STABLE AS $$
    SELECT d.*, count(*) OVER () FROM (
        SELECT CASE WHEN c.id IS NULL THEN 'line_without_call'
                    WHEN l.call_id IS NULL THEN 'call_without_line' ELSE 'call_and_lines' END AS rule,
               COALESCE(c.tenant_id, l.tenant_id), COALESCE(c.id, l.call_id), COALESCE(c.run_id, l.run_id),
               COALESCE(c.cost_nano, 0) AS expected, COALESCE(l.amount, 0) AS found,
               concat_ws(', ', 'call ' || c.status, 'lines ' || l.kinds)
          FROM llm_call c
          FULL JOIN (SELECT e.call_id, (array_agg(e.tenant_id))[1] AS tenant_id, (array_agg(e.run_id))[1] AS run_id,
                            sum(e.amount_nano)::bigint AS amount,
                            string_agg(e.kind, '+' ORDER BY e.kind) AS kinds
                       FROM cost_entry e GROUP BY e.call_id) l ON l.call_id = c.id
         WHERE CASE WHEN c.id IS NULL THEN EXISTS (SELECT FROM run r WHERE r.id = l.run_id)
                    WHEN c.status = 'open' THEN l.call_id IS NOT NULL
                    WHEN c.is_cached THEN l.call_id IS NOT NULL OR c.cost_nano <> 0
                    ELSE l.call_id IS NULL OR l.amount <> c.cost_nano
                         OR l.kinds <> ALL (CASE c.status WHEN 'closed' THEN ARRAY['call', 'correction+in_doubt']
                                                          ELSE ARRAY[c.status::text] END) END) d
     ORDER BY abs(d.expected - d.found) DESC LIMIT p_most
$$;

-- What an ended agent run cost against its calls, and below it the run that it stood for.
CREATE FUNCTION muster_check_agent_runs(p_most integer)
RETURNS TABLE (rule text, tenant_id uuid, object_id uuid, run_id uuid, expected bigint, found bigint,
               detail text, total bigint)
LANGUAGE sql STABLE AS $$
    SELECT 'agent_run_and_calls', d.*, count(*) OVER () FROM (
        SELECT a.tenant_id, a.id, a.run_id,
               COALESCE(c.cost, 0)::bigint + COALESCE(s.cost, 0)::bigint AS expected, a.cost_nano AS found, a.step::text
          FROM agent_run a
          LEFT JOIN (SELECT x.agent_run_id, sum(x.cost_nano) AS cost FROM llm_call x
                      WHERE x.status <> 'open' GROUP BY x.agent_run_id) c ON c.agent_run_id = a.id
          LEFT JOIN (SELECT x.parent_agent_run_id, sum(x.cost_nano) AS cost FROM run x
                      WHERE x.parent_agent_run_id IS NOT NULL GROUP BY x.parent_agent_run_id) s
            ON s.parent_agent_run_id = a.id
         WHERE a.finished_at IS NOT NULL
           AND a.cost_nano <> COALESCE(c.cost, 0) + COALESCE(s.cost, 0)) d
     ORDER BY abs(d.expected - d.found) DESC LIMIT p_most
$$;

-- What an ended run cost against its agent runs.
CREATE FUNCTION muster_check_runs(p_most integer)
RETURNS TABLE (rule text, tenant_id uuid, object_id uuid, run_id uuid, expected bigint, found bigint,
               detail text, total bigint)
LANGUAGE sql STABLE AS $$
    SELECT 'run_and_agent_runs', d.*, count(*) OVER () FROM (
        SELECT r.tenant_id, r.id, r.id, COALESCE(a.cost, 0)::bigint AS expected, r.cost_nano AS found, r.status::text
          FROM run r
          LEFT JOIN (SELECT x.run_id, sum(x.cost_nano) AS cost FROM agent_run x GROUP BY x.run_id) a
            ON a.run_id = r.id
         WHERE r.finished_at IS NOT NULL AND r.cost_nano <> COALESCE(a.cost, 0)) d
     ORDER BY abs(d.expected - d.found) DESC LIMIT p_most
$$;

-- What a period of a budget has spent and holds against the calls that were held in it.
CREATE FUNCTION muster_check_budgets(p_most integer)
RETURNS TABLE (rule text, tenant_id uuid, object_id uuid, run_id uuid, expected bigint, found bigint,
               detail text, total bigint)
LANGUAGE sql STABLE AS $$
    SELECT d.*, count(*) OVER () FROM (
        SELECT x.rule, p.tenant_id, p.id, NULL::uuid, x.expected, x.found,
               format('budget %s, %s', b.name, p.key)
          FROM budget_period p JOIN budget b ON b.id = p.budget_id
          LEFT JOIN (SELECT u.id, sum(c.cost_nano) FILTER (WHERE c.status <> 'open') AS spent,
                            sum(c.hold_nano) FILTER (WHERE c.status = 'open') AS held
                       FROM llm_call c CROSS JOIN unnest(c.budget_periods) AS u (id) GROUP BY u.id) s
            ON s.id = p.id
         CROSS JOIN LATERAL (VALUES
               ('budget_spent_and_calls', COALESCE(s.spent, 0)::bigint, p.spent_nano),
               ('budget_held_and_calls', COALESCE(s.held, 0)::bigint, p.held_nano)) AS x (rule, expected, found)
         WHERE x.expected <> x.found) d
     ORDER BY abs(d.expected - d.found) DESC LIMIT p_most
$$;

-- All of it: `book` says which function found a difference.
CREATE FUNCTION muster_check_ledger(p_most integer)
RETURNS TABLE (book text, rule text, tenant_id uuid, object_id uuid, run_id uuid, expected bigint,
               found bigint, detail text, total bigint)
LANGUAGE sql STABLE AS $$
    SELECT 'calls', d.* FROM muster_check_calls(p_most) d
    UNION ALL SELECT 'agent_runs', d.* FROM muster_check_agent_runs(p_most) d
    UNION ALL SELECT 'runs', d.* FROM muster_check_runs(p_most) d
    UNION ALL SELECT 'budgets', d.* FROM muster_check_budgets(p_most) d
$$;

-- How much a check has looked at.
CREATE FUNCTION muster_check_sizes()
RETURNS TABLE (lines bigint, calls bigint, agent_runs bigint, runs bigint, periods bigint)
LANGUAGE sql STABLE AS $$
    SELECT (SELECT count(*) FROM cost_entry), (SELECT count(*) FROM llm_call),
           (SELECT count(*) FROM agent_run), (SELECT count(*) FROM run),
           (SELECT count(*) FROM budget_period)
$$;
