from django.db import migrations, models

from tenants.kernel.sql import run_sql_file


class Migration(migrations.Migration):

    dependencies = [
        ('orchestrator', '0016_capability'),
        ('tenants', '0009_credentials_for_tools'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='approval',
            name='approval_open_once',
        ),
        migrations.RemoveConstraint(
            model_name='toolcall',
            name='tool_call_status_known',
        ),
        migrations.AddField(
            model_name='approval',
            name='tool',
            field=models.CharField(blank=True, db_default='', default='', max_length=100),
        ),
        migrations.AddField(
            model_name='approval',
            name='tool_call_id',
            field=models.UUIDField(null=True),
        ),
        migrations.AddField(
            model_name='toolcall',
            name='is_held',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name='llmcall',
            name='tool_call_id',
            field=models.UUIDField(null=True),
        ),
        migrations.AlterField(
            model_name='toolcall',
            name='status',
            field=models.CharField(choices=[('running', 'Running'), ('finished', 'Finished'), ('failed', 'Failed'), ('in_doubt', 'In doubt'), ('held', 'Held'), ('agreed', 'Agreed')], max_length=16),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.UniqueConstraint(condition=models.Q(('status', 'open')), fields=('agent_run', 'tool_call_id'), name='approval_open_once', nulls_distinct=False),
        ),
        migrations.AddConstraint(
            model_name='toolcall',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['running', 'finished', 'failed', 'in_doubt', 'held', 'agreed'])), name='tool_call_status_known'),
        ),
        run_sql_file(
            __file__,
            "held_calls.sql",
            reverse="DROP FUNCTION muster_hold_calls, muster_answer_call, muster_go_on",
        ),
    ]
