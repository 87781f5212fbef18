import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
import tenants.kernel.fields
import tenants.kernel.models
from django.db import migrations, models

from tenants.isolation import IsolateTenant, TenantReference
from tenants.kernel.sql import run_sql_file

_FUNCTIONS = """
muster_fence, muster_tally, muster_send_messages, muster_take, muster_take_messages, muster_subscribe
"""


class Migration(migrations.Migration):

    dependencies = [
        ('orchestrator', '0011_ledger_check'),
        ('tenants', '0008_credentials'),
    ]

    operations = [
        migrations.CreateModel(
            name='CallEffect',
            fields=[
                ('pk', models.CompositePrimaryKey('agent_run_id', 'call', blank=True, editable=False, primary_key=True, serialize=False)),
                ('agent_run_id', models.UUIDField()),
                ('call', models.UUIDField()),
                ('effect', tenants.kernel.fields.OrderedJSONField()),
                ('run', tenants.kernel.models.TenantForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='orchestrator.run')),
                ('tenant', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'db_table': 'call_effect',
            },
        ),
        migrations.CreateModel(
            name='MessagePlace',
            fields=[
                ('pk', models.CompositePrimaryKey('agent_run_id', 'tenant_id', blank=True, editable=False, primary_key=True, serialize=False)),
                ('agent_run_id', models.UUIDField()),
                ('forgiven', models.PositiveIntegerField()),
                ('direct_seen', models.BigIntegerField(db_default=0, default=0)),
                ('direct_left', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), db_default=[], default=list, size=None)),
                ('direct_taken', models.BigIntegerField(db_default=0, default=0)),
                ('common_seen', models.BigIntegerField(db_default=0, default=0)),
                ('common_left', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), db_default=[], default=list, size=None)),
                ('taken', models.BigIntegerField(db_default=0, default=0)),
                ('run', tenants.kernel.models.TenantForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='orchestrator.run')),
                ('tenant', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'db_table': 'message_place',
            },
        ),
        migrations.CreateModel(
            name='MessageSubscription',
            fields=[
                ('pk', models.CompositePrimaryKey('agent_run_id', 'topic', 'condition', blank=True, editable=False, primary_key=True, serialize=False)),
                ('agent_run_id', models.UUIDField()),
                ('topic', models.CharField(max_length=100)),
                ('condition', models.TextField()),
                ('run', tenants.kernel.models.TenantForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='orchestrator.run')),
                ('tenant', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'db_table': 'message_subscription',
            },
        ),
        migrations.CreateModel(
            name='RunTally',
            fields=[
                ('pk', models.CompositePrimaryKey('run_id', 'tenant_id', blank=True, editable=False, primary_key=True, serialize=False)),
                ('messages', models.BigIntegerField(db_default=0, default=0)),
                ('run', tenants.kernel.models.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='orchestrator.run')),
                ('tenant', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'db_table': 'run_tally',
            },
        ),
        migrations.CreateModel(
            name='AgentMessage',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('number', models.BigIntegerField()),
                ('call', models.UUIDField()),
                ('inbox_number', models.BigIntegerField(null=True)),
                ('topic', models.CharField(blank=True, db_default='', default='', max_length=100)),
                ('capability', models.CharField(blank=True, db_default='', default='', max_length=100)),
                ('type', models.CharField(max_length=100)),
                ('priority', models.PositiveSmallIntegerField()),
                ('correlation_id', models.UUIDField()),
                ('content', tenants.kernel.fields.OrderedJSONField()),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('receiver', tenants.kernel.models.TenantForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='received_messages', to='orchestrator.agentrun')),
                ('run', tenants.kernel.models.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='messages', to='orchestrator.run')),
                ('sender', tenants.kernel.models.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='sent_messages', to='orchestrator.agentrun')),
                ('tenant', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'db_table': 'agent_message',
                'ordering': ['number'],
                'indexes': [models.Index(condition=models.Q(('receiver__isnull', False)), fields=['receiver', 'number'], name='agent_message_inbox'), models.Index(models.F('run_id'), models.F('number'), condition=models.Q(('receiver__isnull', True)), name='agent_message_common')],
                'constraints': [models.UniqueConstraint(fields=('run', 'number'), name='agent_message_number_once'), models.UniqueConstraint(fields=('sender', 'call'), name='agent_message_once_per_call'), models.CheckConstraint(condition=models.Q(('priority__lte', 10)), name='agent_message_priority_0_to_10')],
            },
        ),
        IsolateTenant("RunTally", audited=False, leaf=True),
        IsolateTenant("CallEffect", audited=False, append_only=True, leaf=True),
        IsolateTenant(
            "AgentMessage", audited=False, append_only=True, rewordable=("content",), leaf=True
        ),
        IsolateTenant("MessagePlace", audited=False, leaf=True),
        IsolateTenant("MessageSubscription", audited=False, leaf=True),
        TenantReference("RunTally", "run"),
        TenantReference("CallEffect", "run"),
        TenantReference("AgentMessage", "run"),
        TenantReference("AgentMessage", "sender"),
        TenantReference("AgentMessage", "receiver"),
        TenantReference("MessagePlace", "run"),
        TenantReference("MessageSubscription", "run"),
        migrations.RunSQL(
            # Each read changes its reader's row: room for it to stay in its page.
            "ALTER TABLE message_place SET (fillfactor = 50)",
            "ALTER TABLE message_place RESET (fillfactor)",
        ),
        run_sql_file(__file__, "messages.sql", reverse=f"DROP FUNCTION {_FUNCTIONS}"),
    ]
