"""The providers that the operator configured, and who may use them."""

from dataclasses import replace
from functools import cache

from django.conf import settings

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.roles import Role, detect
from agents_app.providers.base import (
    NEEDS_KEY,
    ProviderClient,
    ProviderKind,
    ProviderSettings,
    client_for,
    configuration_problem,
)
from orchestrator.core.jsonvalue import Json
from orchestrator.core.plan import PlannedStep


@cache
def provider_settings() -> dict[str, ProviderSettings]:
    """Every provider the platform knows, by name, configured or not."""
    return {
        name: ProviderSettings(
            name=name,
            kind=ProviderKind(name),
            base_url=given.get("base_url", ""),
            api_key=given.get("api_key", ""),
            default_model=given["model"],
            models={role: given[f"model_{role}"] for role in Role if given[f"model_{role}"]},
        )
        for name, given in settings.MUSTER_PROVIDERS.items()
    }


def with_platform_model(step: PlannedStep) -> PlannedStep:
    """The step with role, provider and model settled: what its author left open is filled in.

    The role is read from the task's words; it may bring a model of its own.
    """
    if not step.uses_model:
        return step
    role = Role(step.role) if step.role else detect(str(step.config.get("prompt", "")))
    provider = step.provider or settings.LLM_PROVIDER
    known = provider_settings().get(provider)
    model = step.model or (known.model_for(role) if known else "")
    config = {
        **step.config,
        "role": str(role),
        "provider": provider,
        "model": model,
        "parameters": {**_platform_parameters(), **_mapping(step.config.get("parameters"))},
    }
    return replace(step, role=str(role), provider=provider, model=model, config=config)


def _platform_parameters() -> dict[str, Json]:
    return {
        "temperature": settings.LLM_TEMPERATURE,
        "max_output_tokens": settings.LLM_MAX_TOKENS,
    }


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def unusable(name: str, *, uses_environment: bool) -> str | None:
    """Why a tenant cannot call this provider, or None if it can."""
    found = provider_settings().get(name)
    if found is None:
        return f"there is no provider {name!r}; known: {', '.join(provider_settings())}"
    problem = configuration_problem(found)
    if problem:
        return problem
    if found.kind in NEEDS_KEY and not uses_environment:
        return "this tenant may not use the operator's key for it"
    return None


def client_for_tenant(name: str, *, uses_environment: bool) -> ProviderClient:
    """The client of a provider. ProviderError if the tenant cannot call it."""
    problem = unusable(name, uses_environment=uses_environment)
    if problem:
        raise ProviderError(ProviderErrorKind.NOT_CONFIGURED, problem, name)
    return client_for(provider_settings()[name])
