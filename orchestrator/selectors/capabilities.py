"""What the tenant's agents are good for, who has which, and how busy each of them is."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.core.validation import Catalog
from orchestrator.selectors.agent_loads import agents_chosen, agents_named
from tenants.scope import current_tenant_id


@dataclass(frozen=True, slots=True, kw_only=True)
class AbleAgent:
    """`busy` is how many agent runs it has queued or at work."""

    name: str
    type: str
    is_saved: bool
    busy: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    name: str
    agents: Sequence[AbleAgent]


def capabilities(catalog: Catalog) -> list[Capability]:
    """By name, with the saved agents and the allowed custom agents that steps may ask for."""
    named, chosen = agents_named(current_tenant_id()), agents_chosen()

    def able(name: str, kind: object) -> AbleAgent:
        busy = named.get(name, 0) + chosen.get(name, 0)
        return AbleAgent(name=name, type=str(kind), is_saved=name in catalog.agents, busy=busy)

    return [
        Capability(
            name=capability,
            agents=[
                able(name, agent.get("type"))
                for name, agent in catalog.agents_with(capability).items()
            ],
        )
        for capability in catalog.capabilities
    ]
