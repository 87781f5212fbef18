"""What other apps hear of tenants, in the transaction of what they hear."""

from django.dispatch import Signal

# Sent by `services.tenants.create_tenant` through the system's connection: `tenant`.
tenant_created = Signal()
