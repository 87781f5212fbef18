from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("orchestrator", "0004_attempt_system")]

    operations = [
        # For the status of a window of time. An operator's, over all tenants, skips from one
        # tenant to the next in it.
        migrations.RunSQL(
            "CREATE INDEX run_finished ON run (tenant_id, finished_at)", "DROP INDEX run_finished"
        ),
    ]
