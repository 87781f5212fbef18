-- Adds a line to the open tenant's audit log about something that changes no row, such as an
-- operator's coming in. Who and where from are what the triggers write too; the names that the
-- triggers use stay theirs.
CREATE FUNCTION muster_note(p_action text, p_object_type text, p_object_id text, p_facts jsonb)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    actor jsonb := COALESCE(NULLIF(current_setting('app.actor', true), ''), '{}')::jsonb;
    tenant uuid := NULLIF(current_setting('app.tenant_id', true), '')::uuid;
BEGIN
    IF tenant IS NULL OR p_action ~ '\.(created|changed|deleted)$' THEN
        RAISE EXCEPTION 'not a note: %', p_action USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO audit_entry (id, tenant_id, at, actor_kind, actor_id, actor_label, ip, request_id,
                             action, object_type, object_id, before, after)
    VALUES (uuidv7(), tenant, clock_timestamp(), COALESCE(NULLIF(actor ->> 'kind', ''), 'system'),
            COALESCE(actor ->> 'id', ''), COALESCE(actor ->> 'label', ''),
            COALESCE(actor ->> 'ip', ''), COALESCE(actor ->> 'request_id', ''),
            p_action, p_object_type, p_object_id, NULL, p_facts);
END $$;

REVOKE EXECUTE ON FUNCTION muster_note(text, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION muster_note(text, text, text, jsonb) TO muster_app, muster_system;

-- Accounts belong to no tenant: what changes there is for operators to see.
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON user_account
    FOR EACH ROW EXECUTE FUNCTION muster_audit('password', 'last_login');
