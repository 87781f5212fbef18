-- The todos of a run, which its agents share: fenced and done once, as in context.sql.

CREATE FUNCTION muster_todo_as_json(p_todo todo) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object('id', p_todo.number, 'text', p_todo.text, 'status', p_todo.status,
                             'priority', p_todo.priority, 'needs', p_todo.needs,
                             'created_at', p_todo.created_at, 'updated_at', p_todo.updated_at)
$$;

-- Makes a todo (p_number is null), changes one, or takes it away (p_is_gone): `done`, with the todo. It is
-- not where there is none of that number (`no_todo`), one that it needs is not there or needs it in its
-- turn (`needs_unknown`, `needs_itself`), or the run has p_most (`full`). What is null stays.
CREATE FUNCTION muster_write_todo(
    p_tenant uuid, p_agent_run uuid, p_attempt integer, p_call uuid, p_number integer,
    p_is_gone boolean, p_text text, p_status text, p_priority integer, p_needs integer[], p_most integer)
RETURNS TABLE (verdict text, effect json, run uuid)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    f record;
    v_todo todo;
    v_fault text;
BEGIN
    SELECT * INTO f FROM muster_begin_effect(p_tenant, p_agent_run, p_attempt, p_call);
    IF f.verdict IS NOT NULL THEN RETURN QUERY SELECT f.verdict, f.effect, f.run; RETURN; END IF;
    v_fault := muster_todo_fault(f.run, p_number, p_needs, p_most);
    IF v_fault IS NOT NULL THEN RETURN QUERY SELECT v_fault, NULL::json, f.run; RETURN; END IF;
    IF p_number IS NULL THEN
        UPDATE run_tally t SET todos_made = t.todos_made + 1, todos = t.todos + 1
         WHERE t.run_id = f.run RETURNING t.todos_made INTO p_number;
        INSERT INTO todo AS d (id, tenant_id, run_id, number, text, status, priority, needs, writer_id,
                               created_at, updated_at)
        VALUES (uuidv7(), p_tenant, f.run, p_number, p_text, COALESCE(p_status, 'pending'),
                COALESCE(p_priority, 5), COALESCE(p_needs, '{}'), p_agent_run, clock_timestamp(),
                clock_timestamp())
        RETURNING d.* INTO v_todo;
    ELSIF p_is_gone THEN
        DELETE FROM todo d WHERE d.run_id = f.run AND d.number = p_number RETURNING d.* INTO v_todo;
        UPDATE run_tally t SET todos = t.todos - 1 WHERE t.run_id = f.run;
        UPDATE todo d SET needs = array_remove(d.needs, p_number)
         WHERE d.run_id = f.run AND p_number = ANY (d.needs);
    ELSE
        UPDATE todo d
           SET text = COALESCE(p_text, d.text), status = COALESCE(p_status, d.status),
               priority = COALESCE(p_priority, d.priority), needs = COALESCE(p_needs, d.needs),
               updated_at = clock_timestamp()
         WHERE d.run_id = f.run AND d.number = p_number RETURNING d.* INTO v_todo;
    END IF;
    INSERT INTO call_effect (tenant_id, run_id, agent_run_id, call, effect)
    VALUES (p_tenant, f.run, p_agent_run, p_call, muster_todo_as_json(v_todo));
    RETURN QUERY SELECT 'done', muster_todo_as_json(v_todo), f.run;
END $$;

-- Why a todo cannot be written, or null.
CREATE FUNCTION muster_todo_fault(p_run uuid, p_number integer, p_needs integer[], p_most integer)
RETURNS text
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    IF p_number IS NULL THEN
        IF (SELECT t.todos >= p_most FROM run_tally t WHERE t.run_id = p_run) THEN RETURN 'full'; END IF;
    ELSIF NOT EXISTS (SELECT FROM todo d WHERE d.run_id = p_run AND d.number = p_number) THEN
        RETURN 'no_todo';
    END IF;
    IF EXISTS (SELECT FROM unnest(p_needs) AS n (number)
                WHERE NOT EXISTS (SELECT FROM todo d WHERE d.run_id = p_run AND d.number = n.number)) THEN
        RETURN 'needs_unknown';
    END IF;
    IF p_number IS NOT NULL AND EXISTS (
        WITH RECURSIVE below (number) AS (
            SELECT unnest(p_needs)
            UNION SELECT unnest(d.needs) FROM below b JOIN todo d ON d.run_id = p_run AND d.number = b.number)
        SELECT FROM below b WHERE b.number = p_number) THEN
        RETURN 'needs_itself';
    END IF;
    RETURN NULL;
END $$;

-- One todo of a run, or all (p_number is null), in the order they were made.
CREATE FUNCTION muster_todos(p_tenant uuid, p_run uuid, p_number integer) RETURNS TABLE (todo json)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    RETURN QUERY
    SELECT muster_todo_as_json(d) FROM todo d
     WHERE d.run_id = p_run AND (p_number IS NULL OR d.number = p_number) ORDER BY d.number;
END $$;
