"""The providers as the open tenant can call them."""

from dataclasses import dataclass

from agents_app.providers.models import ModelInfo, model_info
from orchestrator.execution.providers import provider_settings, settings_for, unusable
from tenants.models import ProviderCheck, Tenant
from tenants.scope import current_tenant_id
from tenants.selectors.credentials import ServingCredential, serving_credentials

OWN = "credential"  # a key of the tenant's own
PLATFORM = "platform"  # the operator's, which this tenant may use
NONE = "none"  # it takes none, or there is none
KEYS = (OWN, PLATFORM, NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFacts:
    """`problem` says why the tenant cannot call it; `check` is of what it would use."""

    name: str
    key: str
    credential: ServingCredential | None
    default_model: str
    model: ModelInfo | None  # what is known of that
    problem: str | None
    check: ProviderCheck | None

    @property
    def usable(self) -> bool:
        return self.problem is None


def providers() -> list[ProviderFacts]:
    tenant = Tenant.objects.get(id=current_tenant_id())
    may_use = tenant.uses_environment_credentials
    own = serving_credentials()
    checks = {(c.provider, c.credential_id): c for c in ProviderCheck.objects.all()}
    found = []
    for name in provider_settings():
        credential, settings = own.get(name), settings_for(name, own)
        problem = unusable(name, own=own, uses_environment=may_use)
        default = settings.default_model if settings else ""
        is_lent = bool(settings and settings.api_key and may_use)
        found.append(
            ProviderFacts(
                name=name,
                key=OWN if credential else PLATFORM if is_lent else NONE,
                credential=credential,
                default_model=default,
                model=model_info(name, default) if default else None,
                problem=problem,
                check=checks.get((name, credential.id if credential else None)),
            )
        )
    return found
