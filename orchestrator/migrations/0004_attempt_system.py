from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orchestrator", "0003_engine")]

    operations = [
        migrations.AddField("Attempt", "system", models.JSONField(null=True)),
    ]
