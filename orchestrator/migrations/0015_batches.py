import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
import orchestrator.core.state
import tenants.kernel.fields
import tenants.kernel.models
import tenants.scope
import uuid_utils.compat
from django.db import migrations, models

from tenants.isolation import IsolateTenant, TenantReference
from tenants.kernel.sql import run_sql_file

_FUNCTIONS = """
muster_batched_turn, muster_open_batched, muster_take_batches, muster_note_batch, muster_batch_is_wanted,
muster_batched_calls, muster_end_batched, muster_forget_batches
"""


class Migration(migrations.Migration):

    dependencies = [
        ('orchestrator', '0014_calls_kept'),
        ('tenants', '0009_credentials_for_tools'),
    ]

    operations = [
        migrations.AlterField(
            model_name='agentrun',
            name='waiting_for',
            field=models.CharField(blank=True, choices=[(orchestrator.core.state.WaitingReason['RATE_LIMITED'], orchestrator.core.state.WaitingReason['RATE_LIMITED']), (orchestrator.core.state.WaitingReason['BUDGET'], orchestrator.core.state.WaitingReason['BUDGET']), (orchestrator.core.state.WaitingReason['RETRY'], orchestrator.core.state.WaitingReason['RETRY']), (orchestrator.core.state.WaitingReason['APPROVAL'], orchestrator.core.state.WaitingReason['APPROVAL']), (orchestrator.core.state.WaitingReason['DELAY'], orchestrator.core.state.WaitingReason['DELAY']), (orchestrator.core.state.WaitingReason['DELEGATION'], orchestrator.core.state.WaitingReason['DELEGATION']), (orchestrator.core.state.WaitingReason['BATCH'], orchestrator.core.state.WaitingReason['BATCH']), (orchestrator.core.state.WaitingReason['PAUSED'], orchestrator.core.state.WaitingReason['PAUSED']), (orchestrator.core.state.WaitingReason['WORKER'], orchestrator.core.state.WaitingReason['WORKER']), (orchestrator.core.state.WaitingReason['TENANT_SHARE'], orchestrator.core.state.WaitingReason['TENANT_SHARE']), (orchestrator.core.state.WaitingReason['MAX_PARALLEL'], orchestrator.core.state.WaitingReason['MAX_PARALLEL'])], db_default='', default='', max_length=16),
        ),
        migrations.CreateModel(
            name='ModelBatch',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True, db_default=django.db.models.functions.datetime.Now())),
                ('provider', models.CharField(max_length=32)),
                ('model', models.CharField(max_length=200)),
                ('credential_id', models.UUIDField(null=True)),
                ('status', models.CharField(choices=[('collecting', 'Collecting'), ('sending', 'Sending'), ('working', 'Working'), ('ended', 'Ended')], db_default='collecting', default='collecting', max_length=16)),
                ('vendor_id', models.CharField(blank=True, db_default='', default='', max_length=200)),
                ('requests', models.PositiveIntegerField(db_default=0, default=0)),
                ('size', models.BigIntegerField(db_default=0, default=0)),
                ('due_at', models.DateTimeField()),
                ('lease_until', models.DateTimeField(null=True)),
                ('sent_at', models.DateTimeField(null=True)),
                ('submitted_at', models.DateTimeField(null=True)),
                ('cancel_asked_at', models.DateTimeField(null=True)),
                ('ended_at', models.DateTimeField(null=True)),
                ('tries', models.PositiveIntegerField(db_default=0, default=0)),
                ('error', models.TextField(blank=True, db_default='', default='')),
                ('tenant', models.ForeignKey(db_index=False, default=tenants.scope.current_tenant_id, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'verbose_name_plural': 'model batches',
                'db_table': 'model_batch',
            },
        ),
        migrations.CreateModel(
            name='BatchedCall',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('request', tenants.kernel.fields.OrderedJSONField()),
                ('until', models.DateTimeField()),
                ('is_given_up', models.BooleanField(db_default=False, default=False)),
                ('run', tenants.kernel.models.TenantForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='orchestrator.run')),
                ('tenant', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
                ('batch', tenants.kernel.models.TenantForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='calls', to='orchestrator.modelbatch')),
            ],
            options={
                'db_table': 'batched_call',
            },
        ),
        migrations.AddIndex(
            model_name='modelbatch',
            index=models.Index(models.F('due_at'), condition=models.Q(('status', 'ended'), _negated=True), name='model_batch_due'),
        ),
        migrations.AddConstraint(
            model_name='modelbatch',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['collecting', 'sending', 'working', 'ended'])), name='model_batch_status_known'),
        ),
        migrations.AddConstraint(
            model_name='modelbatch',
            constraint=models.UniqueConstraint(condition=models.Q(('status', 'collecting')), fields=('tenant', 'provider', 'model', 'credential_id'), name='model_batch_collecting_once', nulls_distinct=False),
        ),
        IsolateTenant("ModelBatch", audited=False),
        IsolateTenant("BatchedCall", audited=False, leaf=True),
        TenantReference("BatchedCall", "batch"),
        TenantReference("BatchedCall", "run"),
        run_sql_file(__file__, "batches.sql", reverse=f"DROP FUNCTION {_FUNCTIONS}"),
    ]
