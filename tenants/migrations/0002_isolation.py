from django.db import migrations

from tenants.isolation import APP_ROLE, SYSTEM_ROLE, IsolateTenant, TenantReference
from tenants.kernel.sql import run_sql_file

# Reads are the tenant's own; rows come from the audit trigger alone, which runs as the owner.
AUDIT_POLICIES = f"""
ALTER TABLE audit_entry ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant_rows ON audit_entry FOR SELECT TO {APP_ROLE}
    USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY all_rows ON audit_entry FOR SELECT TO {SYSTEM_ROLE} USING (true);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION muster_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]

    operations = [
        run_sql_file(
            __file__,
            "access.sql",
            reverse="""
            DROP FUNCTION muster_memberships(uuid), muster_key_by_hash(bytea),
                muster_refuse_change() CASCADE;
            DROP FUNCTION muster_audit() CASCADE;
            """,
        ),
        migrations.RunSQL(
            AUDIT_POLICIES,
            """
            DROP POLICY tenant_rows ON audit_entry;
            DROP POLICY all_rows ON audit_entry;
            ALTER TABLE audit_entry DISABLE ROW LEVEL SECURITY;
            """,
        ),
        IsolateTenant("Tenant", tenant_column="id"),
        IsolateTenant("Project"),
        IsolateTenant("Membership"),
        IsolateTenant("ApiKey", hidden=("key_hash",)),
        TenantReference("ApiKey", "project"),
    ]
