"""Which queue an agent run goes to. Workers drain the queues in the order high, normal, low.

Steps with heavy tools have a queue of their own, so that workers can be set aside for them. Where
nobody looks at it, they are sent again as all messages are: through the queue of their priority.
"""

HEAVY_QUEUE = "tools.cpu"
AGENT_QUEUES = frozenset({"agents.high", "agents", "agents.low", HEAVY_QUEUE})
# What the engine's statements add to the priority of those.
HEAVY_FROM = 100
HIGH_FROM = 8
LOW_BELOW = 3


def agent_queue(priority: int) -> str:
    """The queue for a step's priority, 0 (whenever) to 10 (first); from 100 on it is heavy."""
    if priority >= HEAVY_FROM:
        return HEAVY_QUEUE
    if priority >= HIGH_FROM:
        return "agents.high"
    return "agents.low" if priority < LOW_BELOW else "agents"
