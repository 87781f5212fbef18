"""Agents that hand tasks to others: whom they have, and what the provider has them hand out."""

from __future__ import annotations

from typing import Any, Final

from orchestrator.chaos.flows import ANSWER, LEAF, MODEL, PROVIDER, Vertex

# Saved agents: one does what it is told, one hands it on.
HAND, LEAD = "hand", "lead"
# For every call that a worker may die over; and for none.
_PURSE_USD: Final = "0.5"
_POOR_USD: Final = "0.000001"


def means(*, is_poor: bool = False) -> dict[str, Any]:
    """Whom an agent may hand tasks to, and what each of them may cost."""
    return {
        "delegates": [HAND, LEAD],
        "workflows": [LEAF],
        "delegate_cost_usd": _POOR_USD if is_poor else _PURSE_USD,
    }


def saved_agents() -> list[dict[str, Any]]:
    model = {"provider": PROVIDER, "model": MODEL, "output_schema": ANSWER}
    return [
        {"slug": HAND, "type": "prompt", **model},
        {"slug": LEAD, "type": "react", **model, "settings": means()},
    ]


def tasks(vertex: Vertex) -> list[list[dict[str, Any]]]:
    """What an agent hands out, turn by turn, as its provider is told."""
    return [
        [_task(each, f"{vertex.name}.{turn}.{each.name}") for each in handed]
        for turn, handed in enumerate(vertex.hands, start=1)
    ]


def _task(vertex: Vertex, place: str) -> dict[str, Any]:
    """`script` is for the provider of whoever does it."""
    task: dict[str, Any] = {"id": vertex.name, "needs": list(vertex.needs)}
    match vertex.kind:
        case "call":
            return {**task, "workflow": LEAF, "place": place, "failing": vertex.failing}
        case "echo":
            return {**task, "tool": "echo", "value": f"${{{vertex.needs[0]}}}"}
    script = {
        "step": place,
        "route": vertex.route,
        "failing": vertex.failing,
        "stumbles": vertex.stumbles,
        "seconds": vertex.seconds,
    }
    if vertex.kind == "delegate":
        below = Vertex(name=place, adds=vertex.adds, adds_later=vertex.adds_later)
        return {**task, "agent": LEAD, "script": {**script, "tasks": tasks(below)}}
    return {**task, "agent": "" if vertex.is_made else HAND, "script": script}
