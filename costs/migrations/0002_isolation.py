from django.db import migrations

from tenants.isolation import IsolateTenant


class Migration(migrations.Migration):
    dependencies = [("costs", "0001_initial"), ("tenants", "0002_isolation")]

    operations = [
        IsolateTenant("TenantPrice"),
        IsolateTenant("CostEntry", audited=False, append_only=True, leaf=True),
    ]
