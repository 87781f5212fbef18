"""Which queue an agent run goes to. Workers drain the queues in the order high, normal, low."""

AGENT_QUEUES = frozenset({"agents.high", "agents", "agents.low"})
HIGH_FROM = 8
LOW_BELOW = 3


def agent_queue(priority: int) -> str:
    """The queue for a step's priority, 0 (whenever) to 10 (first)."""
    if priority >= HIGH_FROM:
        return "agents.high"
    return "agents.low" if priority < LOW_BELOW else "agents"
