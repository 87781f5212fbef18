-- Budgets on the hot path. Everything runs in the caller's transaction, which has set the tenant;
-- periods are locked in the order of their budgets, whoever locks them.

-- The period of an interval that a time lies in.
CREATE FUNCTION muster_period_key(p_interval text, p_zone text, p_at timestamptz) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE p_interval WHEN 'day' THEN to_char(p_at AT TIME ZONE p_zone, 'YYYY-MM-DD')
                           WHEN 'month' THEN to_char(p_at AT TIME ZONE p_zone, 'YYYY-MM')
                           ELSE 'total' END
$$;

-- The enabled budgets that a call counts for, in the order in which they are locked. `key` names the
-- period that it would be held in now: by the time of the transaction, as of the call itself.
CREATE FUNCTION muster_budgets_of(p_tenant uuid, p_project uuid, p_workflow uuid, p_runs uuid[], p_agent text)
RETURNS TABLE (id uuid, name text, scope text, "interval" text, is_hard boolean, limit_nano bigint, key text)
LANGUAGE sql STABLE AS $$
    SELECT b.id, b.name::text, b.scope::text, b.interval::text, b.is_hard, b.limit_nano,
           muster_period_key(b.interval, b.time_zone, now())
      FROM budget b
     WHERE b.tenant_id = p_tenant AND b.is_enabled
       AND CASE b.scope WHEN 'tenant' THEN true
                        WHEN 'project' THEN b.scope_id = p_project
                        WHEN 'workflow' THEN b.scope_id = p_workflow
                        WHEN 'run' THEN b.scope_id = ANY (p_runs)
                        ELSE b.agent = p_agent END
     ORDER BY b.id
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

-- Holds the worst case of a call in all budgets that apply, or in none: p_bound where one of them is
-- hard, else p_estimate. `verdict` is `held`; `busy` if it will fit once calls that are under way
-- cost less than they hold; or `exhausted`, until a limit is raised or a period ends. The refusal
-- names the first budget that refuses for good, else the first that is busy.
CREATE FUNCTION muster_hold(
    p_tenant uuid, p_project uuid, p_workflow uuid, p_runs uuid[], p_agent text,
    p_estimate bigint, p_bound bigint,
    OUT verdict text, OUT amount bigint, OUT periods uuid[], OUT refusal jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    v_budgets uuid[];
    v_keys text[];
BEGIN
    SELECT array_agg(b.id), array_agg(b.key), CASE WHEN bool_or(b.is_hard) THEN p_bound ELSE p_estimate END
      INTO v_budgets, v_keys, amount
      FROM muster_budgets_of(p_tenant, p_project, p_workflow, p_runs, p_agent) b;
    verdict := 'held';
    IF v_budgets IS NULL THEN
        amount := p_estimate;
        periods := '{}';
        RETURN;
    END IF;
    PERFORM muster_begin_periods(p_tenant, v_budgets, v_keys);
    -- Locked first, then read: a statement of its own sees what the lock has waited for.
    SELECT array_agg(p.id) INTO periods FROM (
        SELECT q.id FROM unnest(v_budgets, v_keys) AS x (budget_id, key)
          JOIN budget_period q ON q.budget_id = x.budget_id AND q.key = x.key
         ORDER BY q.budget_id FOR NO KEY UPDATE OF q) p;
    SELECT CASE WHEN p.spent_nano + amount > p.limit_nano THEN 'exhausted' ELSE 'busy' END,
           jsonb_build_object('budget', b.id, 'name', b.name, 'scope', b.scope, 'scope_id', b.scope_id,
               'agent', b.agent, 'interval', b.interval, 'period', p.key, 'limit_nano', p.limit_nano,
               'spent_nano', p.spent_nano, 'held_nano', p.held_nano, 'needs_nano', amount)
      INTO verdict, refusal
      FROM budget_period p JOIN budget b ON b.id = p.budget_id
     WHERE p.id = ANY (periods) AND p.is_hard AND p.spent_nano + p.held_nano + amount > p.limit_nano
     ORDER BY p.spent_nano + amount <= p.limit_nano, p.budget_id LIMIT 1;
    IF FOUND THEN
        -- Once is enough for whoever tells people.
        UPDATE budget_period p SET refused_at = clock_timestamp()
         WHERE verdict = 'exhausted' AND p.refused_at IS NULL AND p.id = ANY (periods)
           AND p.budget_id = (refusal ->> 'budget')::uuid;
        periods := '{}';
        RETURN;
    END IF;
    verdict := 'held';
    UPDATE budget_period p SET held_nano = p.held_nano + amount, updated_at = clock_timestamp()
     WHERE p.id = ANY (periods);
END $$;

-- Locks the periods that calls will be held in, of several at once and in the one order, so that
-- holding them one by one waits for nobody. Periods that begin with them are made.
CREATE FUNCTION muster_lock_budgets(
    p_tenant uuid, p_projects uuid[], p_workflows uuid[], p_runs uuid[], p_agents text[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_budgets uuid[];
    v_keys text[];
BEGIN
    SELECT array_agg(b.id ORDER BY b.id),
           array_agg(muster_period_key(b.interval, b.time_zone, now()) ORDER BY b.id)
      INTO v_budgets, v_keys
      FROM budget b
     WHERE b.tenant_id = p_tenant AND b.is_enabled
       AND CASE b.scope WHEN 'tenant' THEN true
                        WHEN 'project' THEN b.scope_id = ANY (p_projects)
                        WHEN 'workflow' THEN b.scope_id = ANY (p_workflows)
                        WHEN 'run' THEN b.scope_id = ANY (p_runs)
                        ELSE b.agent = ANY (p_agents) END;
    IF v_budgets IS NULL THEN RETURN; END IF;
    PERFORM muster_begin_periods(p_tenant, v_budgets, v_keys);
    PERFORM 1 FROM unnest(v_budgets, v_keys) AS x (budget_id, key)
      JOIN budget_period q ON q.budget_id = x.budget_id AND q.key = x.key
     ORDER BY q.budget_id FOR NO KEY UPDATE OF q;
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
