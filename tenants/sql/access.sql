-- Functions of the access layer. Each has a fixed search_path, so that no schema of a caller
-- can put its own tables in their way. pg_temp stands last in it, as unnamed it comes first.

-- Writes the audit log. Runs as its owner: the application's roles cannot write the table.
-- Arguments of the trigger name columns that must never be shown.
CREATE FUNCTION muster_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    hidden text[] := TG_ARGV || ARRAY['updated_at', 'created_at', 'last_used_at'];
    old_row jsonb := '{}';
    new_row jsonb := '{}';
    was jsonb;
    now_is jsonb;
    whole jsonb;
    actor jsonb := COALESCE(NULLIF(current_setting('app.actor', true), ''), '{}')::jsonb;
BEGIN
    IF TG_OP <> 'INSERT' THEN old_row := to_jsonb(OLD); END IF;
    IF TG_OP <> 'DELETE' THEN new_row := to_jsonb(NEW); END IF;
    whole := CASE WHEN TG_OP = 'DELETE' THEN old_row ELSE new_row END;
    SELECT jsonb_object_agg(key, value) INTO was
        FROM jsonb_each(old_row) WHERE key <> ALL (hidden) AND value IS DISTINCT FROM new_row -> key;
    SELECT jsonb_object_agg(key, value) INTO now_is
        FROM jsonb_each(new_row) WHERE key <> ALL (hidden) AND value IS DISTINCT FROM old_row -> key;
    IF was IS NULL AND now_is IS NULL THEN RETURN NULL; END IF;
    INSERT INTO audit_entry (id, tenant_id, at, actor_kind, actor_id, actor_label, ip, request_id,
                             action, object_type, object_id, before, after)
    VALUES (uuidv7(),
            (CASE WHEN TG_TABLE_NAME = 'tenant' THEN whole ->> 'id' ELSE whole ->> 'tenant_id' END)::uuid,
            clock_timestamp(),
            COALESCE(NULLIF(actor ->> 'kind', ''), 'system'),
            COALESCE(actor ->> 'id', ''), COALESCE(actor ->> 'label', ''),
            COALESCE(actor ->> 'ip', ''), COALESCE(actor ->> 'request_id', ''),
            TG_TABLE_NAME || '.' || CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'UPDATE' THEN 'changed'
                                               ELSE 'deleted' END,
            TG_TABLE_NAME, whole ->> 'id', was, now_is);
    RETURN NULL;
END $$;

CREATE FUNCTION muster_refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

-- Log-in with a key: the only way from its hash to a tenant without a scope. The time of last
-- use is noted once a minute at most, so that a busy key is not a hot row.
CREATE FUNCTION muster_key_by_hash(hash bytea)
RETURNS TABLE (key_id uuid, tenant_id uuid, project_id uuid, name text, scopes text[],
               expires_at timestamptz, tenant_slug text, state text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE api_key k SET last_used_at = clock_timestamp()
     WHERE k.key_hash = hash AND k.revoked_at IS NULL
       AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
       AND (k.last_used_at IS NULL OR k.last_used_at < clock_timestamp() - interval '1 minute');
    RETURN QUERY
    SELECT k.id, k.tenant_id, k.project_id, k.name::text, k.scopes::text[],
           k.expires_at, t.slug::text,
           CASE WHEN k.revoked_at IS NOT NULL THEN 'revoked'
                WHEN k.expires_at <= clock_timestamp() THEN 'expired'
                ELSE 'valid' END
      FROM api_key k JOIN tenant t ON t.id = k.tenant_id
     WHERE k.key_hash = hash;
END $$;

-- Log-in of a person: in which tenants, with which role.
CREATE FUNCTION muster_memberships(account uuid)
RETURNS TABLE (tenant_id uuid, slug text, name text, role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT t.id, t.slug::text, t.name::text, m.role::text
      FROM membership m JOIN tenant t ON t.id = m.tenant_id
     WHERE m.user_id = account ORDER BY t.name
$$;

-- Triggers fire without the right to execute; only hanging one on a table asks for it.
REVOKE EXECUTE ON FUNCTION muster_audit(), muster_key_by_hash(bytea), muster_memberships(uuid)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_key_by_hash(bytea), muster_memberships(uuid)
    TO muster_app, muster_system;
