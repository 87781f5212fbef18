import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
import tenants.scope
import uuid_utils.compat
from django.db import migrations, models

from tenants.isolation import IsolateTenant
from tenants.kernel.sql import run_sql_file


class Migration(migrations.Migration):

    dependencies = [
        ('orchestrator', '0013_shared_context'),
        ('tenants', '0008_credentials'),
    ]

    operations = [
        migrations.CreateModel(
            name='CachedAnswer',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True, db_default=django.db.models.functions.datetime.Now())),
                ('key', models.CharField(max_length=64)),
                ('provider', models.CharField(max_length=32)),
                ('model', models.CharField(max_length=200)),
                ('reply', models.JSONField()),
                ('answered_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField(db_index=True)),
                ('tenant', models.ForeignKey(db_index=False, default=tenants.scope.current_tenant_id, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'db_table': 'cached_answer',
                'constraints': [models.UniqueConstraint(fields=('tenant', 'key'), name='cached_answer_once_per_key'), models.CheckConstraint(condition=models.Q(('expires_at__gt', models.F('answered_at'))), name='cached_answer_ends_after_it_begins')],
            },
        ),
        migrations.CreateModel(
            name='CallSettings',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True, db_default=django.db.models.functions.datetime.Now())),
                ('caches_answers', models.BooleanField(db_default=True, default=True, help_text='Steps that say `cache` may take answers from calls before, and keep theirs.')),
                ('keeps', models.CharField(choices=[('full', 'All of it'), ('redacted', 'With secrets and personal data struck out'), ('none', 'Figures alone')], db_default='full', default='full', help_text='What is left of prompts, answers and tool calls once their run has ended.', max_length=16)),
                ('keep_days', models.PositiveIntegerField(blank=True, help_text='After so many days only the figures are left. Empty: as long as the run.', null=True)),
                ('treated_until', models.DateTimeField(editable=False, null=True)),
                ('removed_until', models.DateTimeField(editable=False, null=True)),
                ('tenant', models.ForeignKey(db_index=False, default=tenants.scope.current_tenant_id, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'verbose_name': 'settings of model calls',
                'verbose_name_plural': 'settings of model calls',
                'db_table': 'call_settings',
                'constraints': [models.UniqueConstraint(fields=('tenant',), name='call_settings_once_per_tenant'), models.CheckConstraint(condition=models.Q(('keeps__in', ['full', 'redacted', 'none'])), name='call_settings_keeps_known'), models.CheckConstraint(condition=models.Q(('keep_days__isnull', True), ('keep_days__range', (1, 3650)), _connector='OR'), name='call_settings_keep_days_possible')],
            },
        ),
        IsolateTenant("CachedAnswer", audited=False, leaf=True),
        IsolateTenant("CallSettings", hidden=("treated_until", "removed_until"), leaf=True),
        run_sql_file(
            __file__,
            "cache.sql",
            reverse="""
            DROP FUNCTION muster_cached_answer, muster_caches_answers, muster_keep_answer,
                muster_forget_answers
            """,
        ),
        run_sql_file(
            __file__,
            "call_texts.sql",
            reverse="""
            DROP FUNCTION muster_ended_runs, muster_treat_again, muster_hold_ended, muster_have_begin_anew,
                muster_remove_texts, muster_is_done_with, muster_reword_message, muster_reword_value,
                muster_forget_effects
            """,
        ),
    ]
