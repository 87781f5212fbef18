"""The providers that the operator or the tenant configured, and who may use which key."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings

from agents_app.core.complexity import Complexity
from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.roles import OF_TYPE, Role, detect
from agents_app.plugins.registry import plugins
from agents_app.providers.base import (
    ProviderClient,
    ProviderKind,
    ProviderSettings,
    client_for,
    configuration_problem,
)
from orchestrator.core.jsonvalue import Json
from orchestrator.core.plan import PlannedStep
from orchestrator.core.spec import BY_COMPLEXITY
from orchestrator.execution.credentials import Own, credentials_of, own_client
from tenants.errors import SecretUnreadableError
from tenants.selectors.credentials import ServingCredential, providers_with_keys

_USES: tuple[str, ...] = (*Role, *Complexity)


@cache
def provider_settings() -> dict[str, ProviderSettings]:
    """Every provider the platform knows, by name, configured or not."""
    return {
        name: ProviderSettings(
            name=name,
            kind=ProviderKind.of(name),
            base_url=given.get("base_url", ""),
            api_key=given.get("api_key", ""),
            default_model=given["model"],
            has_batches=name in settings.MUSTER_BATCHES_AT,
            models={use: given[f"model_{use}"] for use in _USES if given[f"model_{use}"]},
            **_of_package(name),
        )
        for name, given in settings.MUSTER_PROVIDERS.items()
    }


def _of_package(name: str) -> dict[str, Any]:
    if name in {*ProviderKind}:
        return {}
    known = plugins()
    found = known.providers.get(name)
    return {"plugin": found.provider if found else None, "fault": known.fault_of_provider(name)}


def with_own_models(own: Own) -> Callable[[PlannedStep], PlannedStep]:
    """Settles role, provider and model of a step: what its author left open is filled in.

    The role is read from the task's words; it may bring a model of its own. What a tenant's own
    credential says of models goes before what the operator set.
    """
    return lambda step: _settled(step, own) if step.uses_model and not step.choice else step


def _settled(step: PlannedStep, own: Own) -> PlannedStep:
    role = Role(step.role) if step.role else _role_of(step)
    provider = step.provider or settings.LLM_PROVIDER
    known = settings_for(provider, own)
    by_complexity: dict[str, str] = {}
    if step.model == BY_COMPLEXITY and known:
        by_complexity = models_by_complexity(known, role)
    # Of several, the one for what is complex stands for all.
    own_model = by_complexity.get(Complexity.COMPLEX) or step.model
    model = own_model or (known.model_for(role) if known else "")
    config = {
        **step.config,
        "role": str(role),
        "provider": provider,
        "model": model,
        "parameters": {**_platform_parameters(), **_mapping(step.config.get("parameters"))},
    }
    return replace(
        step,
        role=str(role),
        provider=provider,
        model=model,
        by_complexity=by_complexity,
        config=config,
    )


def _role_of(step: PlannedStep) -> Role:
    of_type = OF_TYPE.get(str(step.config.get("type")))
    return of_type or detect(str(step.config.get("prompt", "")))


def models_meant(provider: str, model: str, own: Own) -> set[str]:
    """The models that a name in a workflow may stand for."""
    known = settings_for(provider, own)
    if model != BY_COMPLEXITY or known is None:
        return {model}
    return {known.model_for_complexity(each, role) for each in Complexity for role in (None, *Role)}


def models_by_complexity(known: ProviderSettings, role: Role | None) -> dict[str, str]:
    return {str(each): known.model_for_complexity(each, role) for each in Complexity}


def _platform_parameters() -> dict[str, Json]:
    return {
        "temperature": settings.LLM_TEMPERATURE,
        "max_output_tokens": settings.LLM_MAX_TOKENS,
    }


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def settings_for(name: str, own: Own) -> ProviderSettings | None:
    """A provider as the tenant's calls meet it, without the tenant's key; None if unknown.

    The operator's key never goes with a tenant's credential, nor to a tenant's address.
    """
    found, credential = provider_settings().get(name), own.get(name)
    if found is None or credential is None:
        return found
    return replace(
        found,
        api_key="",
        base_url=credential.base_url or found.base_url,
        is_guarded=bool(credential.base_url),
        # What the operator says of its server is not said of the tenant's.
        has_batches=found.has_batches and not credential.base_url,
        default_model=credential.default_model or found.default_model,
        models={**found.models, **_own_models(credential)},
    )


def batching_providers(own: Own) -> frozenset[str]:
    """The providers that take batches of the tenant's calls."""
    found = ((name, settings_for(name, own)) for name in provider_settings())
    return frozenset(name for name, known in found if known and known.takes_batches)


def _own_models(credential: ServingCredential) -> dict[str, str]:
    # A default of one's own goes before the operator's for a role.
    default = credential.default_model
    defaults = dict.fromkeys(_USES, default) if default else {}
    return {**defaults, **credential.role_models}


def unusable(name: str, *, own: Own, uses_environment: bool) -> str | None:
    """Why a tenant cannot call this provider, or None if it can.

    A credential of its own is used, or is what is wrong: the operator's key does not step in.
    """
    found, credential = settings_for(name, own), own.get(name)
    if found is None:
        return f"there is no provider {name!r}; known: {', '.join(provider_settings())}"
    if credential is not None:
        return _unusable_credential(found, credential)
    if found.fault:
        return found.fault
    if found.needs_key and not uses_environment:
        return "this tenant has no credential for it, and may not use the operator's key"
    problem = configuration_problem(found)
    if problem:
        return problem
    if found.api_key and not uses_environment:
        return "this tenant has no credential for it, and may not use the operator's key"
    return None


def _unusable_credential(found: ProviderSettings, credential: ServingCredential) -> str | None:
    if not credential.is_readable:
        return (
            f"its credential {credential.name!r} is encrypted with a key that this platform no "
            "longer has; rotate it"
        )
    # The key itself was examined when it was stored, and is opened only for a client.
    problem = configuration_problem(replace(found, api_key="stored"))
    return f"with its credential {credential.name!r}, {problem}" if problem else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantClient:
    """A client, and whose key it calls with; no `credential_id`: the operator's, or none."""

    client: ProviderClient
    credential_id: UUID | None = None
    takes_batches: bool = False


def client_for_tenant(name: str, *, tenant_id: UUID, uses_environment: bool) -> TenantClient:
    """What the tenant calls a provider with. ProviderError if it cannot be called."""
    # A provider without keys needs no look-up.
    own = credentials_of(tenant_id) if name in providers_with_keys() else {}
    problem = unusable(name, own=own, uses_environment=uses_environment)
    found, credential = settings_for(name, own), own.get(name)
    if problem or found is None:
        raise ProviderError(ProviderErrorKind.NOT_CONFIGURED, str(problem), name)
    if credential is None:
        return TenantClient(client=client_for(found), takes_batches=found.takes_batches)
    try:
        client = own_client(tenant_id, credential, found)
    except SecretUnreadableError as error:
        raise ProviderError(ProviderErrorKind.NOT_CONFIGURED, str(error), name) from error
    return TenantClient(
        client=client, credential_id=credential.id, takes_batches=found.takes_batches
    )
