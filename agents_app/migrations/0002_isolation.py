from django.db import migrations

from tenants.isolation import IsolateTenant


class Migration(migrations.Migration):
    dependencies = [("agents_app", "0001_initial"), ("tenants", "0002_isolation")]

    operations = [IsolateTenant("Agent")]
