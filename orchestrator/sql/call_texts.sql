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
                  AND y.status IN ('completed', 'partially_completed', 'failed', 'cancelled')
                ORDER BY y.finished_at LIMIT p_most) x))
       AND r.status IN ('completed', 'partially_completed', 'failed', 'cancelled')
     ORDER BY r.finished_at
$$;

-- Has the texts of a run that has ended treated again, with those of all that ended after it, since an
-- answer is about to come in for it: before anything of the run is locked, as whoever treats them does.
-- What has been treated already stays as it is.
CREATE FUNCTION muster_treat_again(p_tenant uuid, p_call uuid) RETURNS void LANGUAGE sql AS $$
    UPDATE call_settings s
       SET treated_until = CASE WHEN s.treated_until >= x.ended THEN x.ended - interval '1 microsecond'
                                ELSE s.treated_until END,
           removed_until = CASE WHEN s.removed_until >= x.ended THEN x.ended - interval '1 microsecond'
                                ELSE s.removed_until END
      FROM (SELECT r.finished_at AS ended FROM llm_call c
             CROSS JOIN LATERAL (SELECT * FROM run y WHERE y.id = c.run_id LIMIT 1) r
             WHERE c.id = p_call) x
     WHERE s.tenant_id = p_tenant AND (s.treated_until >= x.ended OR s.removed_until >= x.ended)
$$;

-- Those of them that nobody has taken up again meanwhile, nor can until this transaction ends.
CREATE FUNCTION muster_hold_ended(p_runs uuid[]) RETURNS SETOF uuid LANGUAGE sql AS $$
    SELECT r.id FROM run r
     WHERE r.id = ANY (p_runs) AND r.status IN ('completed', 'partially_completed', 'failed', 'cancelled')
     ORDER BY r.id FOR NO KEY UPDATE
$$;

-- Has agents begin anew if their runs are taken up again, rather than go on with answers that are no
-- longer what was said: all in p_runs that have not completed, or only p_agents. What they had
-- delegated is left behind with the rest (see muster_retry_run).
CREATE FUNCTION muster_have_begin_anew(p_runs uuid[], p_agents uuid[]) RETURNS void LANGUAGE sql AS $$
    UPDATE agent_run a SET forgiven = a.attempt, lost_count = 0, spared = 0, updated_at = clock_timestamp()
     WHERE a.run_id = ANY (p_runs) AND (p_agents IS NULL OR a.id = ANY (p_agents))
       AND a.kind = 'agent' AND a.forgiven < a.attempt
       AND a.status IN ('cancelled', 'skipped', 'budget_exceeded')
$$;

-- Removes what was said in runs: prompts, answers, what tools were given and gave, what agents told
-- each other, shared, and handed to others, and what people were shown. Its owner's rights, since messages
-- and shared values are nobody's to change.
CREATE FUNCTION muster_remove_texts(p_runs uuid[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE llm_call c
       SET request = '{}',
           reply = CASE WHEN c.reply IS NULL THEN NULL ELSE jsonb_build_object(
               'text', '', 'finish_reason', c.reply -> 'finish_reason', 'usage', c.reply -> 'usage',
               'provider', c.reply -> 'provider', 'model', c.reply -> 'model') END,
           updated_at = clock_timestamp()
     WHERE c.run_id = ANY (p_runs) AND (c.request <> '{}' OR c.reply ->> 'text' <> '' OR c.reply ? 'tool_calls');
    UPDATE tool_call t
       SET arguments = 'null', output = NULL, error = CASE WHEN t.error IS NULL THEN NULL ELSE '' END,
           updated_at = clock_timestamp()
     WHERE t.run_id = ANY (p_runs)
       AND (t.arguments::text <> 'null' OR t.output IS NOT NULL OR t.error <> '');
    UPDATE agent_run a SET prompt = NULL WHERE a.run_id = ANY (p_runs) AND a.prompt IS NOT NULL;
    UPDATE agent_run a
       SET added = json_build_object(
               'number', a.added -> 'number', 'forgiven', a.added -> 'forgiven', 'depth', a.added -> 'depth',
               'worst_nano', a.added -> 'worst_nano', 'plan', json_build_object('steps', (
                   SELECT json_agg(json_build_object('name', s.value -> 'name', 'needs', s.value -> 'needs'))
                     FROM json_array_elements(a.added -> 'plan' -> 'steps') s)))
     WHERE a.run_id = ANY (p_runs) AND muster_is_done_with(a);
    UPDATE agent_message m SET content = 'null'
     WHERE m.run_id = ANY (p_runs) AND m.content::text <> 'null';
    UPDATE context_value v SET value = NULL WHERE v.run_id = ANY (p_runs) AND v.value IS NOT NULL;
    UPDATE todo d SET text = '' WHERE d.run_id = ANY (p_runs) AND d.text <> '';
    UPDATE approval p SET question = '', show = NULL
     WHERE p.run_id = ANY (p_runs) AND (p.question <> '' OR p.show IS NOT NULL);
    PERFORM muster_have_begin_anew(p_runs, NULL);
    PERFORM muster_forget_effects(p_runs);
END $$;

-- Whether nobody will need the plan of the steps that an agent run has added: they have completed, or
-- were delegated by who has gone on, or begins anew. Others stand for them again if their run is taken up.
CREATE FUNCTION muster_is_done_with(p_agent_run agent_run) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT p_agent_run.added IS NOT NULL
       AND (p_agent_run.status = 'completed' OR p_agent_run.added -> 'awaited' IS NOT NULL)
$$;

-- Puts other words into what cannot be changed otherwise.
CREATE FUNCTION muster_reword_message(p_message uuid, p_content json) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    UPDATE agent_message SET content = COALESCE(p_content, 'null') WHERE id = p_message
$$;

CREATE FUNCTION muster_reword_value(p_value uuid, p_content json) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    UPDATE context_value SET value = p_content WHERE id = p_value
$$;

-- What calls gave is for attempts to come that make them again: none will of those who have ended for
-- good, or begin anew.
CREATE FUNCTION muster_forget_effects(p_runs uuid[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    DELETE FROM call_effect e
     WHERE e.run_id = ANY (p_runs)
       AND (SELECT a.status IN ('completed', 'failed') OR a.forgiven = a.attempt
              FROM agent_run a WHERE a.id = e.agent_run_id)
$$;

REVOKE EXECUTE ON FUNCTION muster_ended_runs(uuid, timestamptz, timestamptz, integer),
    muster_hold_ended(uuid[]), muster_have_begin_anew(uuid[], uuid[]), muster_remove_texts(uuid[]),
    muster_reword_message(uuid, json), muster_reword_value(uuid, json), muster_forget_effects(uuid[])
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_ended_runs(uuid, timestamptz, timestamptz, integer),
    muster_hold_ended(uuid[]), muster_have_begin_anew(uuid[], uuid[]), muster_remove_texts(uuid[]),
    muster_reword_message(uuid, json), muster_reword_value(uuid, json), muster_forget_effects(uuid[])
    TO muster_system;
