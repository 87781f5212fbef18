-- Notes that a password was set or taken away, and nothing of the password itself. What log-in
-- does by itself counts too: Django renews a hash that was made with older settings.
CREATE FUNCTION muster_audit_password() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    actor jsonb := COALESCE(NULLIF(current_setting('app.actor', true), ''), '{}')::jsonb;
BEGIN
    INSERT INTO audit_entry (id, tenant_id, at, actor_kind, actor_id, actor_label, ip, request_id,
                             action, object_type, object_id, before, after)
    VALUES (uuidv7(), NULL, clock_timestamp(), COALESCE(NULLIF(actor ->> 'kind', ''), 'system'),
            COALESCE(actor ->> 'id', ''), COALESCE(actor ->> 'label', ''),
            COALESCE(actor ->> 'ip', ''), COALESCE(actor ->> 'request_id', ''),
            'user_account.password_changed', 'user_account', NEW.id,
            -- Django marks a hash that no password fits with an exclamation mark.
            jsonb_build_object('usable_password', OLD.password NOT LIKE '!%'),
            jsonb_build_object('usable_password', NEW.password NOT LIKE '!%'));
    RETURN NULL;
END $$;

REVOKE EXECUTE ON FUNCTION muster_audit_password() FROM PUBLIC;

CREATE TRIGGER audit_password AFTER UPDATE OF password ON user_account
    FOR EACH ROW WHEN (OLD.password IS DISTINCT FROM NEW.password)
    EXECUTE FUNCTION muster_audit_password();
