-- Budgets on the hot path. Everything runs in the caller's transaction, which has set the tenant;
-- periods are locked in the order of their budgets, whoever locks them.

-- The period of an interval that a time lies in.
CREATE FUNCTION muster_period_key(p_interval text, p_zone text, p_at timestamptz) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE p_interval WHEN 'day' THEN to_char(p_at AT TIME ZONE p_zone, 'YYYY-MM-DD')
                           WHEN 'month' THEN to_char(p_at AT TIME ZONE p_zone, 'YYYY-MM')
                           ELSE 'total' END
$$;

-- Makes the periods of budgets that nothing was held in yet.
CREATE FUNCTION muster_begin_periods(p_tenant uuid, p_budgets uuid[], p_keys text[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO budget_period (id, tenant_id, budget_id, key, limit_nano, is_hard)
    SELECT uuidv7(), p_tenant, b.id, x.key, b.limit_nano, b.is_hard
      FROM unnest(p_budgets, p_keys) AS x (budget_id, key) JOIN budget b ON b.id = x.budget_id
     WHERE NOT EXISTS (SELECT FROM budget_period p WHERE p.budget_id = x.budget_id AND p.key = x.key)
     ORDER BY b.id
    ON CONFLICT (budget_id, key) DO NOTHING
$$;

-- Holds the worst case of each of some calls in all budgets that apply to it, or in none: its bound
-- where one of them is hard, else its estimate. Calls are told apart by `number`, and take in turn what
-- is left; p_runs has an array of runs for each. `verdict` is `held`; `busy` if it will fit once calls
-- that are under way cost less than they hold; or `exhausted`, until a limit is raised or a period ends.
-- The refusal names the first budget that refuses for good, else the first that is busy.
CREATE FUNCTION muster_hold(
    p_tenant uuid, p_numbers bigint[], p_projects uuid[], p_workflows uuid[], p_runs text[], p_agents text[],
    p_estimates bigint[], p_bounds bigint[])
RETURNS TABLE (number bigint, verdict text, amount bigint, periods uuid[], refusal jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    v_budgets uuid[];
    v_keys text[];
    v_ids uuid[];
    v_periods budget_period[];
    v_held bigint[];
    v_mine integer[];
    v_refused integer;
    v_exhausted uuid[];
    p budget_period;
    i integer;
BEGIN
    -- Periods are those of the time of the transaction, as the call itself is.
    SELECT array_agg(b.id ORDER BY b.id),
           array_agg(muster_period_key(b.interval, b.time_zone, now()) ORDER BY b.id)
      INTO v_budgets, v_keys
      FROM budget b
     WHERE b.tenant_id = p_tenant AND b.is_enabled
       AND CASE b.scope WHEN 'tenant' THEN true
                        WHEN 'project' THEN b.scope_id = ANY (p_projects)
                        WHEN 'workflow' THEN b.scope_id = ANY (p_workflows)
                        WHEN 'run' THEN EXISTS (SELECT FROM unnest(p_runs) AS u (runs)
                                                 WHERE b.scope_id = ANY (u.runs::uuid[]))
                        ELSE b.agent = ANY (p_agents) END;
    IF v_budgets IS NULL THEN
        RETURN QUERY SELECT f.number, 'held', f.estimate, '{}'::uuid[], NULL::jsonb
                       FROM unnest(p_numbers, p_estimates) AS f (number, estimate);
        RETURN;
    END IF;
    PERFORM muster_begin_periods(p_tenant, v_budgets, v_keys);
    PERFORM 1 FROM unnest(v_budgets, v_keys) AS x (budget_id, key)
      JOIN budget_period q ON q.budget_id = x.budget_id AND q.key = x.key
     ORDER BY q.budget_id FOR NO KEY UPDATE OF q;
    -- Locked first, then read: a statement of its own sees what the locks have waited for.
    SELECT array_agg(q.budget_id ORDER BY q.budget_id), array_agg(q.id ORDER BY q.budget_id),
           array_agg(q ORDER BY q.budget_id), array_agg(q.held_nano ORDER BY q.budget_id)
      INTO v_budgets, v_ids, v_periods, v_held
      FROM unnest(v_budgets, v_keys) AS x (budget_id, key)
      JOIN budget_period q ON q.budget_id = x.budget_id AND q.key = x.key;
    FOR number, amount, v_mine IN
        SELECT f.number, CASE WHEN bool_or(b.is_hard) THEN f.bound ELSE f.estimate END,
               COALESCE(array_agg(x.place ORDER BY x.place) FILTER (WHERE b.id IS NOT NULL), '{}')
          FROM unnest(p_numbers, p_projects, p_workflows, p_runs, p_agents, p_estimates, p_bounds)
               AS f (number, project, workflow, runs, agent, estimate, bound)
          LEFT JOIN (unnest(v_budgets) WITH ORDINALITY AS x (id, place) JOIN budget b ON b.id = x.id)
            ON CASE b.scope WHEN 'tenant' THEN true
                            WHEN 'project' THEN b.scope_id = f.project
                            WHEN 'workflow' THEN b.scope_id = f.workflow
                            WHEN 'run' THEN b.scope_id = ANY (f.runs::uuid[])
                            ELSE b.agent = f.agent END
         GROUP BY f.number, f.bound, f.estimate ORDER BY f.number
    LOOP
        verdict := 'held';
        periods := '{}';
        refusal := NULL;
        FOREACH i IN ARRAY v_mine LOOP
            p := v_periods[i];
            CONTINUE WHEN NOT p.is_hard OR p.spent_nano + v_held[i] + amount <= p.limit_nano;
            IF verdict = 'held' OR p.spent_nano + amount > p.limit_nano THEN
                verdict := CASE WHEN p.spent_nano + amount > p.limit_nano THEN 'exhausted' ELSE 'busy' END;
                v_refused := i;
            END IF;
            EXIT WHEN verdict = 'exhausted';
        END LOOP;
        IF verdict = 'held' THEN
            FOREACH i IN ARRAY v_mine LOOP
                v_held[i] := v_held[i] + amount;
                periods := periods || v_ids[i];
            END LOOP;
        ELSE
            p := v_periods[v_refused];
            SELECT jsonb_build_object('budget', b.id, 'name', b.name, 'scope', b.scope, 'scope_id', b.scope_id,
                       'agent', b.agent, 'interval', b.interval, 'period', p.key, 'limit_nano', p.limit_nano,
                       'spent_nano', p.spent_nano, 'held_nano', v_held[v_refused], 'needs_nano', amount)
              INTO refusal FROM budget b WHERE b.id = p.budget_id;
            IF verdict = 'exhausted' THEN v_exhausted := v_exhausted || v_ids[v_refused]; END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
    UPDATE budget_period q SET held_nano = x.held, updated_at = clock_timestamp()
      FROM unnest(v_ids, v_held) AS x (id, held)
     WHERE q.id = x.id AND q.held_nano <> x.held;
    -- Once is enough for whoever tells people.
    UPDATE budget_period q SET refused_at = clock_timestamp()
     WHERE q.id = ANY (v_exhausted) AND q.refused_at IS NULL;
END $$;

-- Turns holds into what was really spent, for several calls at once: p_held leaves what is held,
-- p_spent is added to what is spent, in each of the periods.
CREATE FUNCTION muster_settle_holds(p_periods uuid[], p_held bigint[], p_spent bigint[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF COALESCE(cardinality(p_periods), 0) = 0 THEN RETURN; END IF;
    PERFORM 1 FROM budget_period p WHERE p.id = ANY (p_periods) ORDER BY p.budget_id, p.id FOR NO KEY UPDATE;
    UPDATE budget_period p
       SET held_nano = p.held_nano - x.held, spent_nano = p.spent_nano + x.spent,
           overrun_nano = GREATEST(0, p.spent_nano + x.spent + p.held_nano - x.held - p.limit_nano),
           updated_at = clock_timestamp()
      FROM (SELECT period, sum(held)::bigint AS held, sum(spent)::bigint AS spent
              FROM unnest(p_periods, p_held, p_spent) AS u (period, held, spent) GROUP BY period) x
     WHERE p.id = x.period AND p.id = ANY (p_periods);
END $$;

-- A change of a limit holds for the period that is under way; those that are over keep theirs.
CREATE FUNCTION muster_budget_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.scope, NEW.scope_id, NEW.agent, NEW.interval, NEW.time_zone)
       IS DISTINCT FROM (OLD.scope, OLD.scope_id, OLD.agent, OLD.interval, OLD.time_zone) THEN
        RAISE EXCEPTION 'What a budget is for, and its period, cannot be changed'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'budget_scope_is_fixed';
    END IF;
    UPDATE budget_period p
       SET limit_nano = NEW.limit_nano, is_hard = NEW.is_hard, refused_at = NULL,
           updated_at = clock_timestamp(),
           overrun_nano = GREATEST(0, p.spent_nano + p.held_nano - NEW.limit_nano)
     WHERE p.budget_id = NEW.id
       AND p.key >= muster_period_key(NEW.interval, NEW.time_zone, clock_timestamp());
    RETURN NEW;
END $$;

CREATE TRIGGER changed AFTER UPDATE ON budget FOR EACH ROW EXECUTE FUNCTION muster_budget_changed();
