-- As in ledger_check.sql, but for calls that were never made: what came from the cache has no line.
CREATE OR REPLACE FUNCTION muster_check_calls(p_most integer)
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
