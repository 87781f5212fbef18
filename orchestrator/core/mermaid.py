"""A workflow as Mermaid flowchart text, with the states of a run if there is one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.core import graph
from orchestrator.core.palette import PALETTE
from orchestrator.core.places import root_of
from orchestrator.core.spec import AgentSpec, ByCapability, StepSpec, WorkflowSpec

MAX_DRAWN_STEPS = 150
MAX_DRAWN_EDGES = 400
MAX_LABEL = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedStep:
    """A step that `by`, a step of the graph or an added one, has added to a run; all are places."""

    place: str
    by: str
    needs: tuple[str, ...]


def to_mermaid(
    spec: WorkflowSpec,
    *,
    states: Mapping[str, str] | None = None,
    progress: Mapping[str, str] | None = None,
    added: Sequence[AddedStep] = (),
    max_steps: int = MAX_DRAWN_STEPS,
) -> str:
    """The graph; `states` maps steps to their state, `progress` maps them to how far they are.

    A large graph shows one node per level. Added steps hang at the step that has added them; many
    of them are one node there.
    """
    needs = {step.name: step.needs for step in spec.steps}
    edges = sum(map(len, needs.values()))
    if len(needs) > max_steps or edges > MAX_DRAWN_EDGES:
        lines = list(_folded(needs, states=states))
    else:
        lines = list(_steps(spec.steps, states=states, progress=progress or {}))
        place = {step.name: node_id(position) for position, step in enumerate(spec.steps)}
        draw = _added if len(needs) + len(added) <= max_steps else _added_folded
        lines += draw(added, place, states or {})
    return "\n".join(["flowchart TD", *lines, *_classes(states), ""])


def node_id(position: int) -> str:
    """The node of the step at this place of the spec; names could be words of Mermaid."""
    return f"s{position}"


def added_node_id(position: int) -> str:
    return f"a{position}"


def _added(
    added: Sequence[AddedStep], place: Mapping[str, str], states: Mapping[str, str]
) -> Iterator[str]:
    node = {**place, **{each.place: added_node_id(at) for at, each in enumerate(added)}}
    for each in added:
        state = states.get(each.place, "pending")
        title = f"{PALETTE[state].icon} {each.place}"
        yield _node(node[each.place], [title, state.replace("_", " ")], state=state)
    for each in added:
        if not each.needs:
            yield f"    {node[each.by]} -.-> {node[each.place]}"
        for need in each.needs:
            yield f"    {node[need]} --> {node[each.place]}"


def _added_folded(
    added: Sequence[AddedStep], place: Mapping[str, str], states: Mapping[str, str]
) -> Iterator[str]:
    by_step: dict[str, Counter[str]] = {}
    for each in added:
        counts = by_step.setdefault(root_of(each.place), Counter())
        counts[states.get(each.place, "pending")] += 1
    for at, (name, counts) in enumerate(by_step.items()):
        lines = [f"{counts.total()} added steps", *_counted(counts)]
        yield _node(added_node_id(at), lines, state=_most_telling(counts))
        yield f"    {place[name]} -.-> {added_node_id(at)}"


def _counted(counts: Mapping[str, int]) -> list[str]:
    return [f"{PALETTE[s].icon} {n} {s.replace('_', ' ')}" for s, n in counts.items()]


def _steps(
    steps: Sequence[StepSpec], *, states: Mapping[str, str] | None, progress: Mapping[str, str]
) -> Iterator[str]:
    place = {step.name: node_id(position) for position, step in enumerate(steps)}
    for step in steps:
        state = states.get(step.name, "pending") if states is not None else None
        title = f"{PALETTE[state].icon} {step.name}" if state else step.name
        subtitle = _subtitle(step, state=state)
        if step.map and (how_far := progress.get(step.name)):
            subtitle = f"{subtitle}: {how_far} items"
        yield _node(place[step.name], [title, subtitle], state=state)
    for step in steps:
        for need in step.needs:
            if need in place:
                yield f"    {place[need]} --> {place[step.name]}"


def _subtitle(step: StepSpec, *, state: str | None) -> str:
    if state:
        return state.replace("_", " ")
    if isinstance(step.agent, AgentSpec):
        return step.agent.tool or step.agent.type
    if isinstance(step.agent, ByCapability):
        return f"any for {step.agent.capability}"
    return step.agent or step.workflow or step.kind


def _folded(
    needs: Mapping[str, Sequence[str]], *, states: Mapping[str, str] | None
) -> Iterator[str]:
    levels = graph.levels(needs)
    for index, names in enumerate(levels):
        count = f"{len(names)} step{'s' if len(names) != 1 else ''}"
        lines, state = [f"Level {index + 1}: {count}"], None
        if states is not None:
            counts = Counter(states.get(name, "pending") for name in names)
            lines += _counted(counts)
            state = _most_telling(counts)
        yield _node(f"l{index}", lines, state=state)
    for index in range(1, len(levels)):
        yield f"    l{index - 1} --> l{index}"


_TELLING = (
    "failed",
    "budget_exceeded",
    "cancelled",
    "running",
    "waiting",
    "queued",
    "ready",
    "pending",
    "completed",
    "skipped",
)


def _most_telling(counts: Mapping[str, int]) -> str:
    """What someone who looks at a folded level wants to see first."""
    return next(state for state in _TELLING if counts.get(state))


def _node(identifier: str, lines: Sequence[str], *, state: str | None) -> str:
    label = "<br/>".join(_escaped(line) for line in lines)
    return f'    {identifier}["{label}"]' + (f":::{state}" if state else "")


def _escaped(text: str) -> str:
    """Text that neither Mermaid nor the page around it can take for markup."""
    short = text if len(text) <= MAX_LABEL else text[: MAX_LABEL - 1] + "\u2026"
    return "".join(
        character
        if character.isalnum() or character in " _-.,:$" or character in _ICONS
        else f"#{ord(character)};"
        for character in short
    )


_ICONS = frozenset(look.icon for look in PALETTE.values()) | {"\u2026"}


def _classes(states: Mapping[str, str] | None) -> Iterator[str]:
    if states is None:
        return
    for state, look in PALETTE.items():
        dashes = ",stroke-dasharray:4 3" if look.is_dashed else ""
        width = ",stroke-width:3px" if state == "running" else ""
        yield (
            f"    classDef {state} fill:{look.fill},stroke:{look.stroke},"
            f"color:#111827{width}{dashes}"
        )
