from django.db import migrations

from tenants.kernel.sql import run_sql_file


class Migration(migrations.Migration):
    dependencies = [("tenants", "0003_idempotency")]

    operations = [
        run_sql_file(
            __file__, "notes.sql", reverse="DROP TRIGGER audit ON user_account; DROP FUNCTION muster_note"
        )
    ]
