-- What is kept of the texts of runs that have ended. Money and figures stay as they are.

-- A tenant's runs that ended in a time, the first of them, and all that ended with the last of these.
-- Those that ended for want of money are left out: resumed, they go on with the answers they have.
CREATE FUNCTION muster_ended_runs(p_tenant uuid, p_after timestamptz, p_until timestamptz, p_most integer)
RETURNS TABLE (id uuid, finished_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT r.id, r.finished_at FROM run r
     WHERE r.tenant_id = p_tenant AND r.finished_at > p_after
       AND r.finished_at <= LEAST(p_until, (
           SELECT max(x.finished_at) FROM (
               SELECT y.finished_at FROM run y
                WHERE y.tenant_id = p_tenant AND y.finished_at > p_after AND y.finished_at <= p_until
                ORDER BY y.finished_at LIMIT p_most) x))
       AND r.status IN ('completed', 'partially_completed', 'failed', 'cancelled')
     ORDER BY r.finished_at
$$;

-- Removes what was said in runs: prompts, answers, and what tools were given and gave.
CREATE FUNCTION muster_remove_texts(p_runs uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE llm_call c
       SET request = '{}',
           reply = CASE WHEN c.reply IS NULL THEN NULL ELSE jsonb_build_object(
               'text', '', 'finish_reason', c.reply -> 'finish_reason', 'usage', c.reply -> 'usage',
               'provider', c.reply -> 'provider', 'model', c.reply -> 'model') END,
           updated_at = clock_timestamp()
     WHERE c.run_id = ANY (p_runs) AND c.request <> '{}';
    UPDATE tool_call t
       SET arguments = 'null', output = NULL, error = CASE WHEN t.error IS NULL THEN NULL ELSE '' END,
           updated_at = clock_timestamp()
     WHERE t.run_id = ANY (p_runs);
    UPDATE approval x SET show = NULL
     WHERE x.run_id = ANY (p_runs) AND x.tool_call_id IS NOT NULL AND x.show IS NOT NULL;
    UPDATE agent_run a SET prompt = NULL WHERE a.run_id = ANY (p_runs) AND a.prompt IS NOT NULL;
END $$;

REVOKE EXECUTE ON FUNCTION muster_ended_runs(uuid, timestamptz, timestamptz, integer),
    muster_remove_texts(uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_ended_runs(uuid, timestamptz, timestamptz, integer),
    muster_remove_texts(uuid[]) TO muster_system;
