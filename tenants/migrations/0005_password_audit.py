from django.db import migrations

from tenants.kernel.sql import run_sql_file


class Migration(migrations.Migration):
    dependencies = [("tenants", "0004_notes")]

    operations = [
        run_sql_file(
            __file__, "passwords.sql", reverse="DROP FUNCTION muster_audit_password() CASCADE"
        )
    ]
