"""How a flow has to end, worked out step by step from its needs. Knows nothing of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from chaos.flows import Flow, Vertex, said

COMPLETED, FAILED, SKIPPED = "completed", "failed", "skipped"
# From this priority on a step's failure is its run's, where the workflow says nothing else.
_CRITICAL: Final = 8


@dataclass(frozen=True, slots=True)
class Ending:
    """The states and outputs of a run that nobody stops."""

    status: str
    steps: Mapping[str, str]
    outputs: Mapping[str, Any]


def ending(flow: Flow, marker: str, *, lost: frozenset[str] = frozenset()) -> Ending:
    """`lost` are steps that were given up because too many workers died of them."""
    steps: dict[str, str] = {}
    outputs: dict[str, Any] = {}
    barred: set[str] = set()
    for vertex in flow.vertices:
        status, bars = _status(vertex, steps, barred, outputs, lost)
        steps[vertex.name] = status
        outputs[vertex.name] = _output(vertex, marker, outputs) if status == COMPLETED else None
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
    if vertex.failing or vertex.name in lost:
        return FAILED, True
    return COMPLETED, False


def _output(vertex: Vertex, marker: str, outputs: Mapping[str, Any]) -> Any:
    if vertex.kind == "ask":
        return {"route": vertex.route, "said": said(marker, vertex.name)}
    if vertex.kind == "gather":
        return {need: outputs[need] for need in vertex.needs}
    if vertex.kind == "delay":
        return None
    if not vertex.needs:
        return vertex.name
    given = outputs[vertex.needs[0]]
    return "none" if given is None else given


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
