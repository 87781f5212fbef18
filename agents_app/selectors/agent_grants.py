"""Which agents a tenant's workflows may use: types that come along, and custom ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from agents_app.core.types import AGENT_TYPES
from agents_app.models import AgentGrant
from agents_app.plugins.registry import plugins
from tenants.fresh import Fresh

BUILT_IN = "built-in"
_NOT_ALLOWED = "is not allowed for this tenant; an admin can allow it under Agent types"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKind:
    """A type of agent, or a custom agent. `fault` tells why it is broken, if it is."""

    name: str
    description: str = ""
    capabilities: tuple[str, ...] = ()
    origin: str = BUILT_IN
    calls_model: bool = False
    allowed: bool = False
    fault: str = ""

    @property
    def type(self) -> str:
        return self.name if self.origin == BUILT_IN else "custom"


def agent_kinds() -> list[AgentKind]:
    """All there are for the open tenant, those that are broken last."""
    grants = _grants()
    built_in = [
        AgentKind(
            name=kind.name,
            description=kind.description,
            calls_model=kind.calls_model,
            allowed=grants.get(kind.name, True),
        )
        for kind in AGENT_TYPES
    ]
    found = plugins()
    custom = [
        AgentKind(
            name=each.name,
            description=each.description,
            capabilities=each.capabilities,
            origin=each.source,
            calls_model=each.agent.calls_model,
            allowed=grants.get(each.name, False),
        )
        for each in found.agents.values()
    ]
    broken = [
        AgentKind(name=each.name, origin=each.source, fault="; ".join(each.reasons))
        for each in found.broken
    ]
    return [*built_in, *custom, *broken]


def withheld_agents() -> dict[str, str]:
    """Why the open tenant may not use agents, by their names."""
    kinds = agent_kinds()
    return {each.name: _NOT_ALLOWED for each in kinds if not each.allowed and not each.fault}


def is_withheld(tenant_id: UUID, name: str) -> bool:
    """Whether a tenant may not use a custom agent, as was true seconds ago; for workers."""
    return not _granted.of(tenant_id).get(name, False)


def forget_grants() -> None:
    """Have workers look again at once; for tests, which do not wait for seconds."""
    _granted.forget()


def _grants() -> Mapping[str, bool]:
    return dict(AgentGrant.objects.values_list("agent", "is_allowed"))


_granted: Fresh[Mapping[str, bool]] = Fresh(_grants)
