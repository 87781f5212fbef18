import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
import tenants.kernel.fields
import tenants.kernel.models
import tenants.scope
import uuid_utils.compat
from django.db import migrations, models

from tenants.isolation import IsolateTenant, TenantReference
from tenants.kernel.sql import run_sql_file


class Migration(migrations.Migration):

    dependencies = [
        ('orchestrator', '0006_run_deadline_seconds'),
        ('tenants', '0006_api_key_lineage'),
    ]

    operations = [
        migrations.CreateModel(
            name='Approval',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True, db_default=django.db.models.functions.datetime.Now())),
                ('step', models.CharField(max_length=400)),
                ('question', models.TextField()),
                ('show', tenants.kernel.fields.OrderedJSONField(null=True)),
                ('roles', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=16), size=None)),
                ('exclude_requester', models.BooleanField(default=False)),
                ('form_schema', tenants.kernel.fields.OrderedJSONField(null=True)),
                ('expires_at', models.DateTimeField(null=True)),
                ('on_expire', models.CharField(max_length=16)),
                ('on_reject', models.CharField(max_length=16)),
                ('status', models.CharField(choices=[('open', 'Open'), ('approved', 'Approved'), ('rejected', 'Rejected'), ('expired', 'Expired'), ('withdrawn', 'Withdrawn')], default='open', max_length=16)),
                ('decided_by', models.JSONField(null=True)),
                ('decided_at', models.DateTimeField(null=True)),
                ('form', tenants.kernel.fields.OrderedJSONField(null=True)),
                ('agent_run', tenants.kernel.models.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='approvals', to='orchestrator.agentrun')),
                ('run', tenants.kernel.models.TenantForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='approvals', to='orchestrator.run')),
                ('tenant', models.ForeignKey(db_index=False, default=tenants.scope.current_tenant_id, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'db_table': 'approval',
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['tenant', 'status', '-id'], name='approval_inbox'), models.Index(fields=['agent_run'], name='approval_of_agent_run')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('status', 'open')), fields=('agent_run',), name='approval_open_once'), models.CheckConstraint(condition=models.Q(('status__in', ['open', 'approved', 'rejected', 'expired', 'withdrawn'])), name='approval_status_known'), models.CheckConstraint(condition=models.Q(('decided_at__isnull', False), ('status__in', ['open', 'withdrawn']), _connector='OR'), name='approval_decided_has_time')],
            },
        ),
        IsolateTenant("Approval", hidden=("question", "show", "form_schema", "form"), leaf=True),
        TenantReference("Approval", "run"),
        TenantReference("Approval", "agent_run"),
        run_sql_file(
            __file__,
            "approvals.sql",
            reverse="""
            DROP TRIGGER withdraw_approval ON agent_run;
            DROP FUNCTION muster_open_approval, muster_decide_approval, muster_expire_approval,
                muster_withdraw_approval
            """,
        ),
    ]
