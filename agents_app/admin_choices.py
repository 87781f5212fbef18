"""What the pickers of admin pages offer: what this installation has."""

from django.conf import settings

from agents_app.agent_types import ALL_TYPES
from agents_app.core.roles import Role
from agents_app.selectors.toolboxes import toolbox_of
from costs.selectors.prices import ANY_MODEL, price_rows
from tenants.scope import current_tenant_id

ROLES = {role.value: role.value.title() for role in Role}


def type_choices() -> dict[str, str]:
    return {kind.name: f"{kind.name}: {kind.description}" for kind in ALL_TYPES}


def tool_names() -> list[str]:
    return [tool.name for tool in toolbox_of(current_tenant_id())]


def provider_choices() -> dict[str, str]:
    return {name: name for name in settings.MUSTER_PROVIDERS}


def known_models() -> list[str]:
    """Models that the operator set as defaults, and those that have a price here."""
    configured = {
        value
        for provider in settings.MUSTER_PROVIDERS.values()
        for key, value in provider.items()
        if key.startswith("model") and value
    }
    priced = {row.model for row in price_rows()} - {ANY_MODEL}
    return sorted(configured | priced)
