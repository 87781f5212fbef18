"""What the agent of a step is good for, as other agents may ask for it."""

from orchestrator.core.plan import PlannedStep


def capabilities_of(step: PlannedStep) -> frozenset[str]:
    """Its saved agent, its type, its role, and the tools that it may use, by their names."""
    config = step.config
    tools = config.get("tools")
    named = [step.agent, config.get("type"), step.role, config.get("tool")]
    named += tools if isinstance(tools, list) else []
    return frozenset(str(name) for name in named if name)
