from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("orchestrator", "0005_run_finished_index")]

    operations: ClassVar = [
        migrations.AddField("run", "deadline_seconds", models.PositiveIntegerField(null=True)),
    ]
