from django.apps import AppConfig


class CostsConfig(AppConfig):
    name = "costs"

    def ready(self) -> None:
        from costs.services.budgets import give_default_budget  # needs loaded models
        from tenants.signals import tenant_created

        tenant_created.connect(give_default_budget, dispatch_uid="costs.default_budget")
