"""What the agent of a step is good for, as other agents may ask for it."""

from orchestrator.core.plan import PlannedStep


def capabilities_of(step: PlannedStep) -> frozenset[str]:
    """What its agent says of itself, its name, its type, its role, and the tools it may use."""
    config = step.config
    named = [step.agent, config.get("type"), step.role, config.get("tool")]
    for name in ("capabilities", "tools"):
        listed = config.get(name)
        named += listed if isinstance(listed, list) else []
    return frozenset(str(name) for name in named if name)
