from django.db import migrations

from tenants.kernel.sql import run_sql_file

_FUNCTIONS = """
muster_check_ledger, muster_check_calls, muster_check_agent_runs, muster_check_runs,
muster_check_budgets, muster_check_sizes
"""


class Migration(migrations.Migration):
    dependencies = [
        ("orchestrator", "0010_limits"),
        ("costs", "0006_ledger_checks"),
    ]

    operations = [
        run_sql_file(__file__, "ledger_check.sql", reverse=f"DROP FUNCTION {_FUNCTIONS}"),
    ]
