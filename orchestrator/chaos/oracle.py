"""How a flow has to end, worked out step by step from its needs. Knows nothing of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.chaos.flows import Flow, Vertex, called, said

COMPLETED, FAILED, SKIPPED = "completed", "failed", "skipped"
# From this priority on a step's failure is its run's, where the workflow says nothing else.
_CRITICAL: Final = 8


@dataclass(frozen=True, slots=True)
class Ending:
    """The states and outputs of a run that nobody stops."""

    status: str
    steps: Mapping[str, str]
    outputs: Mapping[str, Any]


def ending(
    flow: Flow, marker: str, *, leaf: Flow | None = None, lost: frozenset[str] = frozenset()
) -> Ending:
    """How a run of the flow ends that nobody stops.

    `leaf` is what the flow calls, if it does. `lost` are places in the run that were given up,
    because too many workers died of them.
    """
    steps: dict[str, str] = {}
    outputs: dict[str, Any] = {}
    barred: set[str] = set()
    for vertex in flow.vertices:
        status, bars = _status(vertex, steps, barred, outputs, lost)
        steps[vertex.name] = status
        is_completed = status == COMPLETED
        outputs[vertex.name] = (
            _output(vertex, marker, outputs, leaf, lost) if is_completed else None
        )
        if bars:
            barred.add(vertex.name)
    return Ending(_run_status(flow, steps), steps, outputs)


def _status(
    vertex: Vertex,
    steps: Mapping[str, str],
    barred: set[str],
    outputs: Mapping[str, Any],
    lost: frozenset[str],
) -> tuple[str, bool]:
    """Its state, and whether what needs it cannot run for that reason."""
    completed = [need for need in vertex.needs if steps[need] == COMPLETED]
    is_barred = not barred.isdisjoint(vertex.needs)
    if is_barred and (vertex.join == "all" or not completed):
        return SKIPPED, True
    if vertex.needs and not completed:
        return SKIPPED, False
    if vertex.runs_if and outputs[vertex.needs[0]]["route"] != vertex.runs_if:
        return SKIPPED, False
    return (FAILED, True) if _fails(vertex, lost) else (COMPLETED, False)


def _fails(vertex: Vertex, lost: frozenset[str]) -> bool:
    if vertex.kind == "map":
        failed = sum(_failed_items(vertex, lost))
        return failed > vertex.allow_failed * len(vertex.items)
    if vertex.kind == "loop":
        return any(place.startswith(f"{vertex.name}[") for place in lost)
    return vertex.failing or vertex.name in lost


def _failed_items(vertex: Vertex, lost: frozenset[str]) -> list[bool]:
    return [fails or f"{vertex.name}[{index}]" in lost for index, fails in enumerate(vertex.items)]


def _output(
    vertex: Vertex,
    marker: str,
    outputs: Mapping[str, Any],
    leaf: Flow | None,
    lost: frozenset[str],
) -> Any:
    match vertex.kind:
        case "ask":
            return _answer(vertex.route, marker, vertex.name)
        case "gather":
            return {need: outputs[need] for need in vertex.needs}
        case "list":
            return list(vertex.items)
        case "map":
            return [
                None if fails else _answer(vertex.route, marker, f"{vertex.name}[{index}]")
                for index, fails in enumerate(_failed_items(vertex, lost))
            ]
        case "loop":
            last = f"{vertex.name}.{vertex.rounds}.write"
            return _answer(str(vertex.rounds), marker, last)
        case "call" if leaf:
            return run_output(leaf, ending(leaf, called(marker)))
        case "echo":
            return _echoed(vertex, outputs)
    return _decision(vertex)


def _answer(route: str, marker: str, step: str) -> dict[str, str]:
    return {"route": route, "said": said(marker, step)}


def _decision(vertex: Vertex) -> dict[str, str] | None:
    if vertex.kind != "approval":
        return None
    return {"decision": "reject" if vertex.verdict == "reject" else "approve"}


def _echoed(vertex: Vertex, outputs: Mapping[str, Any]) -> Any:
    if not vertex.needs:
        return vertex.name
    given = outputs[vertex.needs[0]]
    return "none" if given is None else given


def run_output(flow: Flow, ended: Ending) -> Any:
    last = ended.outputs[flow.last]
    return {"last": "none" if last is None else last}


def _run_status(flow: Flow, steps: Mapping[str, str]) -> str:
    failed = [vertex for vertex in flow.vertices if steps[vertex.name] == FAILED]
    if not failed:
        return COMPLETED
    is_accepted = (
        flow.mode == "partial"
        and all(vertex.priority < _CRITICAL for vertex in failed)
        and len(failed) <= flow.max_failed_ratio * len(steps)
        and COMPLETED in steps.values()
    )
    return "partially_completed" if is_accepted else FAILED
