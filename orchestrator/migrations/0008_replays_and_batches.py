import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
import tenants.kernel.fields
import tenants.kernel.models
import tenants.scope
import uuid_utils.compat
from django.db import migrations, models

from tenants.isolation import IsolateTenant, TenantReference

_AUDIT_RUNS = """
CREATE OR REPLACE TRIGGER audit AFTER INSERT ON run
    FOR EACH ROW EXECUTE FUNCTION muster_audit({})
"""


class Migration(migrations.Migration):

    dependencies = [
        ('orchestrator', '0007_approvals'),
        ('tenants', '0006_api_key_lineage'),
    ]

    operations = [
        migrations.AddField(
            model_name='agentrun',
            name='reused_from',
            field=models.UUIDField(null=True),
        ),
        migrations.AddField(
            model_name='agentrun',
            name='saved_nano',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='run',
            name='overrides',
            field=tenants.kernel.fields.OrderedJSONField(null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='replay_from',
            field=models.CharField(blank=True, db_default='', default='', max_length=63),
        ),
        migrations.AddField(
            model_name='run',
            name='replay_of',
            field=tenants.kernel.models.TenantForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='replays', to='orchestrator.run'),
        ),
        migrations.AddField(
            model_name='run',
            name='saved_nano',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.CreateModel(
            name='RunBatch',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True, db_default=django.db.models.functions.datetime.Now())),
                ('name', models.CharField(blank=True, default='', max_length=200)),
                ('size', models.PositiveIntegerField()),
                ('started_by', models.JSONField(default=dict)),
                ('project', tenants.kernel.models.TenantForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='run_batches', to='tenants.project')),
                ('tenant', models.ForeignKey(db_index=False, default=tenants.scope.current_tenant_id, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'verbose_name_plural': 'run batches',
                'db_table': 'run_batch',
                'ordering': ['-id'],
            },
        ),
        migrations.AddField(
            model_name='run',
            name='batch',
            field=tenants.kernel.models.TenantForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='runs', to='orchestrator.runbatch'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('batch__isnull', False)), fields=['batch', '-id'], name='run_of_batch'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('replay_of__isnull', False)), fields=['replay_of'], name='run_replays'),
        ),
        migrations.AddIndex(
            model_name='runbatch',
            index=models.Index(fields=['tenant', '-id'], name='run_batch_latest'),
        ),
        IsolateTenant("RunBatch"),
        TenantReference("RunBatch", "project"),
        TenantReference("Run", "batch", on_delete="SET NULL"),
        TenantReference("Run", "replay_of", on_delete="SET NULL"),
        # Overrides may hold prompts, which stay out of the audit log as inputs do.
        migrations.RunSQL(
            _AUDIT_RUNS.format("'input', 'output', 'overrides'"),
            _AUDIT_RUNS.format("'input', 'output'"),
        ),
    ]
