"""How a flow has to end, worked out step by step from its needs. Knows nothing of the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from orchestrator.chaos.flows import Flow, Vertex, called, said

COMPLETED, FAILED, SKIPPED = "completed", "failed", "skipped"
# From this priority on a step's failure is its run's, where the workflow says nothing else.
_CRITICAL: Final = 8
# So deep may stand what is added to a run; who would add deeper ones is told that it cannot.
MAX_DEPTH: Final = 3
_HANDING: Final = ("delegate", "plan")


@dataclass(frozen=True, slots=True)
class Ending:
    """The states and outputs of a run that nobody stops. Steps that it adds are `plan.research`.

    `turns`: how many answers of its model each step takes that has one.
    """

    status: str
    steps: Mapping[str, str]
    outputs: Mapping[str, Any]
    turns: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What comes of a step that runs. An output without a meaning if it fails."""

    fails: bool
    output: Any
    added: Ending | None = None
    turns: int = 0


def ending(
    flow: Flow, marker: str, *, leaf: Flow | None = None, lost: frozenset[str] = frozenset()
) -> Ending:
    """How a run of the flow ends that nobody stops.

    `leaf` is what the flow calls, if it does. `lost` are places in the run that were given up,
    because too many workers died of them; `sub/top` is one in the run that the step `sub` stands
    for.
    """
    return _Oracle(marker=marker, leaf=leaf, lost=lost).ending(flow)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Oracle:
    """`at` is what stands before the names of steps in their places: `plan.` for added ones."""

    marker: str
    leaf: Flow | None
    lost: frozenset[str]
    at: str = ""
    depth: int = 0

    def ending(self, flow: Flow) -> Ending:
        steps: dict[str, str] = {}
        outputs: dict[str, Any] = {}
        barred: set[str] = set()
        added: dict[str, Ending] = {}
        turns: dict[str, int] = {}
        for vertex in flow.vertices:
            work = self._work(vertex, outputs, flow)
            status, bars = _status(vertex, steps, barred, outputs, fails=work.fails)
            steps[vertex.name] = status
            outputs[vertex.name] = work.output if status == COMPLETED else None
            if work.turns:
                turns[vertex.name] = work.turns
            if bars:
                barred.add(vertex.name)
            if work.added and status != SKIPPED:
                added[vertex.name] = work.added
        whole = Ending(_run_status(flow, steps), steps, outputs, turns)
        return _with_added(whole, added)

    def _work(self, vertex: Vertex, outputs: Mapping[str, Any], flow: Flow) -> _Work:
        place = self.at + vertex.name
        if vertex.kind in _HANDING:
            return self._handed(vertex, place, flow)
        if place in self.lost:
            return _Work(fails=True, output=None)
        match vertex.kind:
            case "map":
                return self._mapped(vertex, outputs, flow)
            case "loop":
                return self._looped(vertex, place)
            case "call" if self.leaf:
                return self._called(vertex, place, self.leaf)
            case "add":
                return self._planned(vertex, place, flow)
            case "ask" | "act":
                answer = self._answer(vertex.route, place)
                output = json.dumps(answer) if vertex.is_made else answer
                return _Work(fails=vertex.failing, output=output, turns=vertex.turns + 1)
        return _Work(fails=vertex.failing, output=_output(vertex, place, outputs))

    def _mapped(self, vertex: Vertex, outputs: Mapping[str, Any], flow: Flow) -> _Work:
        items = [
            self._work(
                replace(vertex, kind=vertex.of, name=f"{vertex.name}[{index}]", failing=fails),
                outputs,
                flow,
            )
            for index, fails in enumerate(vertex.items)
        ]
        failed = sum(item.fails for item in items)
        return _Work(
            fails=failed > vertex.allow_failed * len(items),
            output=[None if item.fails else item.output for item in items],
        )

    def _looped(self, vertex: Vertex, place: str) -> _Work:
        is_lost = any(lost.startswith(f"{place}[") for lost in self.lost)
        last = f"{place}.{vertex.rounds}.write"
        return _Work(fails=vertex.failing or is_lost, output=self._answer(str(vertex.rounds), last))

    def _called(self, vertex: Vertex, place: str, leaf: Flow) -> _Work:
        flow = leaf.doomed() if vertex.failing else leaf
        below = frozenset(
            lost.removeprefix(f"{place}/") for lost in self.lost if lost.startswith(f"{place}/")
        )
        ended = ending(flow, called(self.marker, place), lost=below)
        return _Work(fails=ended.status == FAILED, output=run_output(flow, ended))

    def _planned(self, vertex: Vertex, place: str, flow: Flow) -> _Work:
        """The flow's rules hold among the added steps, then for the step that adds them."""
        body = replace(flow, vertices=vertex.adds)
        ended = replace(self, at=f"{place}.", depth=self.depth + 1).ending(body)
        output = run_output(body, ended)
        return _Work(fails=ended.status == FAILED, output=output, added=ended, turns=1)

    def _handed(self, vertex: Vertex, place: str, flow: Flow) -> _Work:
        """Whatever comes of what it hands out is told, and fails nothing else.

        Something of it may be there even if it was given up in the end.
        """
        steps: dict[str, str] = {}
        outputs: dict[str, Any] = {}
        turns: dict[str, int] = {}
        heard: list[Any] = []
        for turn, handed in enumerate(vertex.hands, start=1):
            if self.depth >= MAX_DEPTH:
                heard += [FAILED for _ in handed]
                continue
            poor = [
                replace(each, failing=each.failing or _is_broke(vertex, each)) for each in handed
            ]
            below = replace(self, at=f"{place}.{turn}.", depth=self.depth + 1)
            ended = below.ending(replace(flow, vertices=tuple(poor)))
            steps |= {f"{turn}.{name}": status for name, status in ended.steps.items()}
            outputs |= {f"{turn}.{name}": output for name, output in ended.outputs.items()}
            turns |= {f"{turn}.{name}": count for name, count in ended.turns.items()}
            heard += [_heard(each, ended) for each in handed]
        return _Work(
            fails=vertex.failing or place in self.lost,
            output={**self._answer(vertex.route, place), "heard": heard},
            added=Ending(COMPLETED, steps, outputs, turns),
            turns=len(vertex.hands) + 1,
        )

    def _answer(self, route: str, place: str) -> dict[str, str]:
        return {"route": route, "said": said(self.marker, place)}


def _status(
    vertex: Vertex,
    steps: Mapping[str, str],
    barred: set[str],
    outputs: Mapping[str, Any],
    *,
    fails: bool,
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
    return (FAILED, True) if fails else (COMPLETED, False)


def _output(vertex: Vertex, place: str, outputs: Mapping[str, Any]) -> Any:
    match vertex.kind:
        case "gather":
            return {need: outputs[need] for need in vertex.needs}
        case "list":
            return list(vertex.items)
        case "echo":
            return _echoed(vertex, place, outputs)
    return _decision(vertex)


def _decision(vertex: Vertex) -> dict[str, str] | None:
    if vertex.kind != "approval":
        return None
    return {"decision": "reject" if vertex.verdict == "reject" else "approve"}


def _is_broke(by: Vertex, vertex: Vertex) -> bool:
    """Whether a task may not cost what it takes."""
    return by.is_poor and vertex.kind != "echo"


def _heard(vertex: Vertex, ended: Ending) -> Any:
    """What whoever handed it out is told of it."""
    status, output = ended.steps[vertex.name], ended.outputs[vertex.name]
    if status != COMPLETED:
        return status
    # An agent that is made for a task answers in text, which is read for the JSON that it is.
    return json.loads(output) if isinstance(output, str) else output


def _echoed(vertex: Vertex, place: str, outputs: Mapping[str, Any]) -> Any:
    if not vertex.needs:
        return place
    given = outputs[vertex.needs[0]]
    return "none" if given is None else given


def run_output(flow: Flow, ended: Ending) -> Any:
    last = ended.outputs[flow.last]
    return {"last": "none" if last is None else last}


def _with_added(whole: Ending, added: Mapping[str, Ending]) -> Ending:
    steps, outputs, turns = dict(whole.steps), dict(whole.outputs), dict(whole.turns)
    for by, ended in added.items():
        steps |= {f"{by}.{name}": status for name, status in ended.steps.items()}
        outputs |= {f"{by}.{name}": output for name, output in ended.outputs.items()}
        turns |= {f"{by}.{name}": count for name, count in ended.turns.items()}
    return Ending(whole.status, steps, outputs, turns)


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
