import agents_app.core.todos
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
        ('orchestrator', '0012_messages'),
        ('tenants', '0008_credentials'),
    ]

    operations = [
        migrations.AddField(
            model_name='runtally',
            name='context_bytes',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='runtally',
            name='context_versions',
            field=models.IntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='runtally',
            name='todos',
            field=models.IntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='runtally',
            name='todos_made',
            field=models.IntegerField(db_default=0, default=0),
        ),
        migrations.CreateModel(
            name='ContextValue',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True, db_default=django.db.models.functions.datetime.Now())),
                ('namespace', models.UUIDField()),
                ('key', models.CharField(max_length=200)),
                ('version', models.PositiveIntegerField()),
                ('value', tenants.kernel.fields.OrderedJSONField(null=True)),
                ('size', models.PositiveIntegerField()),
                ('run', tenants.kernel.models.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='context', to='orchestrator.run')),
                ('tenant', models.ForeignKey(db_index=False, default=tenants.scope.current_tenant_id, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
                ('writer', tenants.kernel.models.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='written_values', to='orchestrator.agentrun')),
            ],
            options={
                'db_table': 'context_value',
                'ordering': ['key', '-version'],
                'constraints': [models.UniqueConstraint(fields=('run', 'namespace', 'key', 'version'), name='context_value_version_once')],
            },
        ),
        migrations.CreateModel(
            name='Todo',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True, db_default=django.db.models.functions.datetime.Now())),
                ('number', models.PositiveIntegerField()),
                ('text', models.TextField()),
                ('status', models.CharField(choices=[(agents_app.core.todos.TodoStatus['PENDING'], agents_app.core.todos.TodoStatus['PENDING']), (agents_app.core.todos.TodoStatus['IN_PROGRESS'], agents_app.core.todos.TodoStatus['IN_PROGRESS']), (agents_app.core.todos.TodoStatus['COMPLETED'], agents_app.core.todos.TodoStatus['COMPLETED'])], default=agents_app.core.todos.TodoStatus['PENDING'], max_length=16)),
                ('priority', models.PositiveSmallIntegerField(default=5)),
                ('needs', django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), default=list, size=None)),
                ('run', tenants.kernel.models.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='todos', to='orchestrator.run')),
                ('tenant', models.ForeignKey(db_index=False, default=tenants.scope.current_tenant_id, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
                ('writer', tenants.kernel.models.TenantForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='orchestrator.agentrun')),
            ],
            options={
                'db_table': 'todo',
                'ordering': ['number'],
                'constraints': [models.UniqueConstraint(fields=('run', 'number'), name='todo_number_once'), models.CheckConstraint(condition=models.Q(('status__in', [agents_app.core.todos.TodoStatus['PENDING'], agents_app.core.todos.TodoStatus['IN_PROGRESS'], agents_app.core.todos.TodoStatus['COMPLETED']])), name='todo_status_known'), models.CheckConstraint(condition=models.Q(('priority__lte', 10)), name='todo_priority_0_to_10')],
            },
        ),
        IsolateTenant(
            "ContextValue", audited=False, append_only=True, rewordable=("value",), leaf=True
        ),
        IsolateTenant("Todo", audited=False, leaf=True),
        TenantReference("ContextValue", "run"),
        TenantReference("ContextValue", "writer"),
        TenantReference("Todo", "run"),
        TenantReference("Todo", "writer"),
        run_sql_file(
            __file__,
            "context.sql",
            reverse="DROP FUNCTION muster_begin_effect, muster_set_context, muster_get_context",
        ),
        run_sql_file(
            __file__,
            "todos.sql",
            reverse="DROP FUNCTION muster_todo_as_json, muster_write_todo, muster_todo_fault, muster_todos",
        ),
    ]
