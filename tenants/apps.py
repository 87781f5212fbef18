from django.apps import AppConfig
from django.db.models.signals import post_migrate


class TenantsConfig(AppConfig):
    name = "tenants"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from tenants import checks, privileges  # needs loaded models

        checks.register_checks()
        post_migrate.connect(privileges.grant_after_migrate, sender=self)
