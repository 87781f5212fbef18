import tenants.kernel.fields
from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('agents_app', '0008_capabilities'),
    ]

    operations = [
        migrations.AddField(
            model_name='toolgrant',
            name='approval',
            field=tenants.kernel.fields.OrderedJSONField(blank=True, null=True),
        ),
    ]
