import tenants.kernel.fields
from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('agents_app', '0007_agent_grants'),
    ]

    operations = [
        migrations.AddField(
            model_name='toolgrant',
            name='approval',
            field=tenants.kernel.fields.OrderedJSONField(blank=True, null=True),
        ),
    ]
