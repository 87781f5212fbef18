-- Alerts about money, for the system role: all tenants at once, in statements of a few milliseconds.

-- Writes down each threshold that a budget has passed in the period that is under way, or in the one
-- that ended within the last day: once, whoever looks. Once a call was refused,
-- the budget is exhausted, though it may not be spent to the last: that passes the highest threshold.
-- p_mails: whether mail can be sent at all.
CREATE FUNCTION muster_find_alerts(p_mails boolean) RETURNS SETOF cost_alert
LANGUAGE sql AS $$
    INSERT INTO cost_alert (id, tenant_id, kind, budget_id, budget_name, period, threshold, spent_nano,
                            limit_nano, refuses, mail_due_at)
    SELECT uuidv7(), b.tenant_id, 'threshold', b.id, b.name, p.key, t.threshold, p.spent_nano,
           p.limit_nano, p.is_hard AND p.refused_at IS NOT NULL AND t.threshold = h.threshold,
           CASE WHEN p_mails THEN clock_timestamp() END
      FROM budget b
     CROSS JOIN LATERAL (
           SELECT DISTINCT muster_period_key(b.interval, b.time_zone, m.at) AS key
             FROM (VALUES (clock_timestamp()), (clock_timestamp() - interval '1 day')) AS m (at)) k
      JOIN budget_period p ON p.budget_id = b.id AND p.key = k.key
     CROSS JOIN LATERAL unnest(b.thresholds) AS t (threshold)
     CROSS JOIN LATERAL (SELECT max(x.threshold) AS threshold FROM unnest(b.thresholds) AS x (threshold)) h
     WHERE b.is_enabled AND b.scope <> 'run'
       AND (p.spent_nano > 0 AND p.spent_nano::numeric * 100 >= p.limit_nano::numeric * t.threshold
            OR p.is_hard AND p.refused_at IS NOT NULL AND t.threshold = h.threshold)
       -- Looked up first: an insert that finds its like costs more.
       AND NOT EXISTS (SELECT FROM cost_alert a
                        WHERE a.tenant_id = b.tenant_id AND a.kind = 'threshold' AND a.budget_id = b.id
                          AND a.period = p.key AND a.threshold = t.threshold)
    ON CONFLICT DO NOTHING
    RETURNING *
$$;

-- Takes alerts whose mail is due; each is due again later, should its sender die.
CREATE FUNCTION muster_claim_mails(p_most integer, p_tries integer) RETURNS SETOF cost_alert
LANGUAGE sql AS $$
    UPDATE cost_alert a
       SET mail_tries = a.mail_tries + 1, updated_at = clock_timestamp(),
           mail_due_at = CASE WHEN a.mail_tries + 1 < p_tries
                              THEN clock_timestamp() + interval '1 minute' * 2 ^ a.mail_tries END
     WHERE a.id = ANY (ARRAY(
           SELECT x.id FROM cost_alert x WHERE x.mail_due_at <= clock_timestamp()
            ORDER BY x.mail_due_at LIMIT p_most FOR NO KEY UPDATE SKIP LOCKED))
    RETURNING a.*
$$;
