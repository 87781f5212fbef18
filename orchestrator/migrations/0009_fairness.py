from django.db import migrations

from tenants.kernel.sql import run_sql_file

_FUNCTIONS = """
muster_here, muster_cluster, muster_loads, muster_share_out, muster_mend_loads, muster_age_waiting
"""


class Migration(migrations.Migration):
    dependencies = [
        ("orchestrator", "0008_replays_and_batches"),
        ("tenants", "0007_fairness"),
    ]

    operations = [
        run_sql_file(__file__, "fairness.sql", reverse=f"DROP FUNCTION {_FUNCTIONS}"),
        run_sql_file(__file__, "waits.sql", reverse="DROP FUNCTION muster_standing"),
    ]
