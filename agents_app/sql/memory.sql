-- What agents remember: written under a key by whoever comes first with the version that it has,
-- found by full text.

-- What keeps an owner from having one more entry: '' if nothing does, `full` with those that it has,
-- or `crowded` with the places of those that were forgotten, so that nobody fills the table by
-- keeping and forgetting.
CREATE FUNCTION muster_memory_obstacle(p_tenant uuid, p_scope text, p_owner text, p_most integer)
RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN count(*) FILTER (WHERE x.is_live) >= p_most THEN 'full'
                WHEN count(*) >= 2 * p_most THEN 'crowded'
                ELSE '' END
      FROM (SELECT COALESCE(m.expires_at > clock_timestamp(), true) AS is_live
              FROM memory_entry m
             WHERE m.tenant_id = p_tenant AND m.scope = p_scope AND m.owner = p_owner
             LIMIT 2 * p_most) x
$$;

-- Keeps an entry: `written` with its version now, `conflict` with the one that it has instead, or
-- what keeps it from having one more. The same call again has `written` before, and writes nothing. What is over counts as
-- not there.
CREATE FUNCTION muster_remember(
    p_tenant uuid, p_scope text, p_owner text, p_key text, p_kind text, p_content json, p_text text,
    p_language regconfig, p_expected integer, p_call uuid, p_run uuid, p_lives interval, p_most integer)
RETURNS TABLE (verdict text, version integer)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    e record;
    v_version integer;
    v_obstacle text;
    v_ends timestamptz := clock_timestamp() + p_lives;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    -- What somebody else inserts between two looks, the next one finds.
    LOOP
        SELECT m.id, m.version, m.calls, m.expires_at <= clock_timestamp() AS is_over INTO e
          FROM memory_entry m
         WHERE m.tenant_id = p_tenant AND m.scope = p_scope AND m.owner = p_owner AND m.key = p_key
           FOR UPDATE;
        EXIT WHEN FOUND;
        IF p_expected > 0 THEN RETURN QUERY SELECT 'conflict', 0; RETURN; END IF;
        v_obstacle := muster_memory_obstacle(p_tenant, p_scope, p_owner, p_most);
        IF v_obstacle <> '' THEN RETURN QUERY SELECT v_obstacle, 0; RETURN; END IF;
        INSERT INTO memory_entry (id, tenant_id, scope, owner, key, kind, content, text, words, version,
                                  calls, run_id, expires_at, fault)
        VALUES (uuidv7(), p_tenant, p_scope, p_owner, p_key, p_kind, p_content, p_text,
                to_tsvector(p_language, p_text), 1, ARRAY[p_call], p_run, v_ends, '')
        ON CONFLICT (tenant_id, scope, owner, key) DO NOTHING;
        IF FOUND THEN RETURN QUERY SELECT 'written', 1; RETURN; END IF;
    END LOOP;
    IF p_call = ANY (e.calls) THEN RETURN QUERY SELECT 'written', e.version; RETURN; END IF;
    v_version := CASE WHEN e.is_over THEN 0 ELSE e.version END;
    IF p_expected IS NOT NULL AND p_expected <> v_version THEN
        RETURN QUERY SELECT 'conflict', v_version; RETURN;
    END IF;
    -- It has its place, however many were forgotten.
    IF e.is_over AND muster_memory_obstacle(p_tenant, p_scope, p_owner, p_most) = 'full' THEN
        RETURN QUERY SELECT 'full', 0; RETURN;
    END IF;
    UPDATE memory_entry m
       SET kind = p_kind, content = p_content, text = p_text, words = to_tsvector(p_language, p_text),
           version = v_version + 1, calls = (ARRAY[p_call] || m.calls)[1:20], run_id = p_run,
           expires_at = v_ends, updated_at = clock_timestamp(), fault = ''
     WHERE m.id = e.id;
    RETURN QUERY SELECT 'written', v_version + 1;
END $$;

-- Whether there was such an entry. Its place is kept empty for a while, so that the same call, told
-- again, does not forget what was written after it.
CREATE FUNCTION muster_forget(p_tenant uuid, p_scope text, p_owner text, p_key text, p_call uuid)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    e record;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant::text, true);
    SELECT m.id, m.calls, COALESCE(m.expires_at <= clock_timestamp(), false) AS is_over INTO e
      FROM memory_entry m
     WHERE m.tenant_id = p_tenant AND m.scope = p_scope AND m.owner = p_owner AND m.key = p_key
       FOR UPDATE;
    IF NOT FOUND THEN RETURN false; END IF;
    IF p_call = ANY (e.calls) OR e.is_over THEN RETURN p_call = ANY (e.calls); END IF;
    UPDATE memory_entry m
       SET content = '{}', text = '', words = NULL, calls = (ARRAY[p_call] || m.calls)[1:20],
           expires_at = clock_timestamp(), updated_at = clock_timestamp()
     WHERE m.id = e.id;
    RETURN true;
END $$;

-- The entries that fit a query best; the latest, if it has no words. Any word of it may stand in an
-- entry, since models ask in whole sentences; short words count only where there are no others.
-- Runs as its owner: under row-level security no query may use the index of words, since every row
-- of the tenant would have to be looked at first. So it looks for the tenant itself.
CREATE FUNCTION muster_search_memory(
    p_tenant uuid, p_query text, p_language regconfig, p_scopes text[], p_owners text[],
    p_kinds text[], p_limit integer)
RETURNS TABLE (id uuid, scope text, key text, kind text, content json, version integer,
               updated_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_words tsquery;
    v_open text := NULLIF(current_setting('app.tenant_id', true), '');
BEGIN
    IF v_open IS NOT NULL AND v_open <> p_tenant::text THEN
        RAISE EXCEPTION 'the scope of another tenant is open' USING ERRCODE = 'insufficient_privilege';
    END IF;
    WITH words AS (SELECT w.lexeme, length(w.lexeme) > 2 AS is_long
                     FROM unnest(to_tsvector(p_language, p_query)) w),
         counted AS (SELECT lexeme FROM words
                      WHERE is_long OR NOT EXISTS (SELECT FROM words WHERE is_long))
    SELECT string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery
      INTO v_words FROM counted;
    RETURN QUERY
    SELECT m.id, m.scope::text, m.key::text, m.kind::text, m.content, m.version, m.updated_at
      FROM memory_entry m
     WHERE m.tenant_id = p_tenant AND m.fault = ''
       AND (v_words IS NULL OR m.words @@ v_words)
       AND (m.scope::text, m.owner::text) IN (SELECT * FROM unnest(p_scopes, p_owners))
       AND (p_kinds = '{}' OR m.kind = ANY (p_kinds))
       AND (m.expires_at IS NULL OR m.expires_at > clock_timestamp())
     ORDER BY CASE WHEN v_words IS NULL THEN 0 ELSE ts_rank(m.words, v_words, 1) END DESC,
              m.updated_at DESC, m.id
     LIMIT p_limit;
END $$;

REVOKE EXECUTE ON FUNCTION muster_search_memory(uuid, text, regconfig, text[], text[], text[], integer)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_search_memory(uuid, text, regconfig, text[], text[], text[], integer)
    TO muster_app, muster_system;

-- What people change is audited; what agents do stands in the history of their runs.
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON memory_entry
    FOR EACH ROW WHEN (NULLIF(current_setting('app.actor', true), '') IS NOT NULL)
    EXECUTE FUNCTION muster_audit('content', 'text', 'words', 'calls');
