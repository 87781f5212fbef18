from datetime import date

from django.db import migrations

FREE = ("local", "ollama", "simulated")
FROM = date(2020, 1, 1)


def add(apps, schema_editor):
    price = apps.get_model("costs", "PlatformPrice")
    for provider in FREE:
        price.objects.using(schema_editor.connection.alias).create(
            provider=provider, model="*", valid_from=FROM, input_usd=0, output_usd=0
        )


def remove(apps, schema_editor):
    price = apps.get_model("costs", "PlatformPrice")
    price.objects.using(schema_editor.connection.alias).filter(
        provider__in=FREE, model="*", valid_from=FROM
    ).delete()


class Migration(migrations.Migration):
    """A model on one's own machine has no price per token, until the operator sets one."""

    dependencies = [("costs", "0002_isolation")]

    operations = [migrations.RunPython(add, remove)]
