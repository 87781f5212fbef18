"""All types of agents: those that come with the platform, and the one for agents of one's own."""

from typing import Final

from agents_app.core.agent import AgentTypes
from agents_app.core.custom import CustomAgent
from agents_app.core.types import AGENT_TYPES
from agents_app.core.types.custom import CustomType
from agents_app.plugins.registry import plugins


def custom_agent(name: str) -> CustomAgent | str:
    """The custom agent of a name, or in words why there is none."""
    known = plugins()
    return known.fault_of_agent(name) or known.agents[name].agent


ALL_TYPES: Final = AgentTypes(*AGENT_TYPES, CustomType(custom_agent))
