"""Which models may be called: those that are configured, and those that workflows name."""

from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.execution.providers import provider_settings
from orchestrator.models import Workflow
from tenants.models import Tenant


def models_in_use(tenant: Tenant | None = None) -> set[tuple[str, str]]:
    """Pairs of provider and model, of a tenant or of all: configured, or in a current version."""
    workflows = Workflow.objects.db_manager("system").filter(current_version__isnull=False)
    if tenant is not None:
        workflows = workflows.filter(tenant_id=tenant.id)
    plans = workflows.values_list("current_version__plan", flat=True)
    return {*_configured(), *_planned(plans.iterator(chunk_size=100))}


def _configured() -> Iterator[tuple[str, str]]:
    for name, settings in provider_settings().items():
        for model in {settings.default_model, *settings.models.values()} - {""}:
            yield name, model


def _planned(plans: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for plan in plans:
        uses = (rule["use"] for rule in plan.get("degrade") or ())
        yield from ((use["provider"], use["model"]) for use in uses if use)
        for step in _steps(plan):
            provider = step.get("provider")
            names = [step.get("model"), *(step.get("by_complexity") or {}).values()]
            yield from ((provider, name) for name in names if provider and name)
            yield from ((hop["provider"], hop["model"]) for hop in step.get("fallback") or ())


def _steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those of loops too."""
    for step in plan["steps"]:
        yield step
        yield from (step.get("choice") or {}).get("candidates", ())
        if step.get("loop"):
            yield from _steps(step["loop"]["body"])
