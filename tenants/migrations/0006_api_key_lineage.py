import django.db.models.deletion
from django.db import migrations, models

import tenants.kernel.models
from tenants.isolation import TenantReference


class Migration(migrations.Migration):
    dependencies = [("tenants", "0005_password_audit")]

    operations = [
        migrations.AlterModelOptions(
            name="apikey",
            options={
                "ordering": ["-id"],
                "verbose_name": "API key",
                "verbose_name_plural": "API keys",
            },
        ),
        migrations.AddField(
            model_name="apikey",
            name="made_by",
            field=tenants.kernel.models.TenantForeignKey(
                db_constraint=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="made",
                to="tenants.apikey",
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="replaced_by",
            field=tenants.kernel.models.TenantForeignKey(
                db_constraint=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="replaces",
                to="tenants.apikey",
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="revoked_reason",
            field=models.CharField(
                blank=True, db_default="", default="", editable=False, max_length=300
            ),
        ),
        TenantReference("ApiKey", "made_by"),
        TenantReference("ApiKey", "replaced_by", on_delete="SET NULL"),
    ]
