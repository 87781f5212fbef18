"""Runs of any shape end as the rules say, whatever the order of events and whatever is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from types import MappingProxyType

from hypothesis import assume, given, note, settings
from hypothesis import strategies as st

from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.plan import Plan, compile_plan, plan_from_json, plan_to_json
from orchestrator.core.state import TERMINAL_AGENT_RUN, AgentRunStatus, RunStatus
from tests.property.engine_model import Engine

_A = AgentRunStatus
FAILED = {_A.FAILED, _A.BUDGET_EXCEEDED}
BAD = FAILED | {_A.CANCELLED}
# Far more events than any run of this size takes.
TOO_MANY = 1000
MANY_MESSAGES = 100


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """A step as its author thinks of it, and what becomes of it if it may run."""

    needs: tuple[str, ...]
    is_any: bool
    is_delay: bool
    priority: int
    holds: bool | str | None  # its condition, or why that fails; None: it has none
    fate: AgentRunStatus

    def document(self) -> dict[str, object]:
        kind = {"delay": "1m"} if self.is_delay else {"agent": {"type": "prompt", "prompt": "x"}}
        condition = {} if self.holds is None else {"when": "input.go"}
        join = "any" if self.is_any else "all"
        needs = list(self.needs)
        return {"needs": needs, "join": join, "priority": self.priority, **kind, **condition}


ALONE = Sketch(needs=(), is_any=False, is_delay=False, priority=5, holds=None, fate=_A.COMPLETED)
Graph = dict[str, Sketch]
Statuses = Mapping[str, AgentRunStatus]

CONDITIONS: tuple[bool | str, ...] = (True, False, "it raises")
FATES = (_A.COMPLETED, _A.COMPLETED, _A.COMPLETED, _A.FAILED, *sorted(BAD))
JOINS = (False, True)
# As one choice, since every choice takes hypothesis its time: an agent that completes is the first.
TRAITS = [
    *product([False], JOINS, [None, None, *CONDITIONS], FATES),
    *product([True], JOINS, [None, *CONDITIONS], [_A.COMPLETED]),
]


@st.composite
def graphs(draw: st.DrawFn, *, max_size: int = 8) -> Graph:
    """Steps in the order of their needs, or against it."""
    found: dict[str, Sketch] = {}
    for index in range(draw(st.integers(1, max_size))):
        numbers = st.integers(0, 2**index - 1)
        # Two at a time, so that one step in four is needed.
        chosen = draw(numbers) & draw(numbers) if index else 0
        is_delay, is_any, holds, fate = draw(st.sampled_from(TRAITS))
        found[f"s{index}"] = Sketch(
            needs=tuple(f"s{other}" for other in range(index) if chosen >> other & 1),
            is_any=is_any and chosen > 0,
            is_delay=is_delay,
            priority=4 + index % 3,
            holds=holds,
            fate=fate,
        )
    return dict(reversed(found.items())) if draw(st.booleans()) else found


@st.composite
def other_fates(draw: st.DrawFn, graph: Graph) -> Graph:
    """The same steps, of which some fare otherwise."""
    return {
        name: replace(
            sketch,
            holds=None if sketch.holds is None else draw(st.sampled_from(CONDITIONS)),
            fate=_A.COMPLETED if sketch.is_delay else draw(st.sampled_from(FATES)),
        )
        for name, sketch in graph.items()
    }


@st.composite
def policies(draw: st.DrawFn) -> dict[str, object]:
    fields: dict[str, object] = {
        "strategy": draw(st.sampled_from(["adaptive", "levels", "sequential"])),
        "failure": {"mode": draw(st.sampled_from(["partial", "fail_fast"]))},
    }
    most = draw(st.sampled_from([None, None, 1, 2, 3]))
    return fields if most is None else {**fields, "max_parallel": most}


def plan_of(graph: Graph, fields: Mapping[str, object]) -> Plan:
    steps = {name: sketch.document() for name, sketch in graph.items()}
    spec = spec_from_mapping({"name": "acme", "steps": steps, **fields})
    return plan_from_json(plan_to_json(compile_plan(spec, {})))


# The rules, as plainly as they can be said


def is_broken(graph: Graph, statuses: Statuses, name: str) -> bool:
    """Whether it failed, or was skipped because of a step that failed."""
    if statuses[name] is not _A.SKIPPED:
        return statuses[name] in BAD
    sketch = graph[name]
    broken = [is_broken(graph, statuses, need) for need in sketch.needs]
    if sketch.is_any:
        return any(broken) and _A.COMPLETED not in map(statuses.get, sketch.needs)
    return any(broken)


def needs_allow(graph: Graph, statuses: Statuses, name: str) -> bool:
    sketch = graph[name]
    needs = [statuses[need] for need in sketch.needs]
    if not needs or (sketch.is_any and _A.COMPLETED in needs):
        return True
    return (
        all(status in TERMINAL_AGENT_RUN for status in needs)
        and _A.COMPLETED in needs
        and not any(is_broken(graph, statuses, need) for need in sketch.needs)
    )


def level_of(graph: Graph, name: str) -> int:
    return max((level_of(graph, need) + 1 for need in graph[name].needs), default=0)


def may_start(graph: Graph, strategy: object, name: str, statuses: Statuses) -> bool:
    """Whether the rules let a step start, or have its condition looked at."""
    unsettled = {other for other, status in statuses.items() if status not in TERMINAL_AGENT_RUN}
    if strategy == "levels":
        lower = (other for other in unsettled if level_of(graph, other) < level_of(graph, name))
        return not any(lower) and needs_allow(graph, statuses, name)
    if strategy == "sequential":
        at_work = (other for other in unsettled if statuses[other] is not _A.PENDING)
        return not any(at_work) and needs_allow(graph, statuses, name)
    return needs_allow(graph, statuses, name)


def foretold(graph: Graph, kept: Statuses) -> Statuses:
    """How every step ends if failures stop nothing but what needs them."""
    statuses = {name: kept.get(name, _A.PENDING) for name in graph}
    for name in sorted(graph, key=partial(level_of, graph)):
        sketch = graph[name]
        if name in kept:
            continue
        if not needs_allow(graph, statuses, name) or sketch.holds is False:
            statuses[name] = _A.SKIPPED
        elif isinstance(sketch.holds, str):
            statuses[name] = _A.FAILED
        else:
            statuses[name] = sketch.fate
    return statuses


# Driving a run

Event = tuple[str, object]


class Driver:
    """Lets things happen to a run, in an order that hypothesis chooses."""

    def __init__(self, engine: Engine, graph: Graph, data: st.DataObject) -> None:
        self.engine = engine
        self.graph = graph
        self.data = data
        self.spare = {"try_again": 3, "pause": 1, "cancel": 1, "mishap": 8}

    def run(self, *, is_harsh: bool = False, is_controlled: bool = False) -> None:
        for _ in range(TOO_MANY):
            if self.engine.is_over:
                return
            self.check(is_calm=not is_harsh)
            events = [
                *self.ordinary(),
                *(self.controls() if is_controlled else ()),
                *(self.mishaps() if is_harsh else ()),
            ]
            assert events, "it waits for the sweeper"
            name, subject = self.data.draw(st.sampled_from(events))
            getattr(self, name)(subject)
        raise AssertionError("it does not end")

    def check(self, *, is_calm: bool) -> None:
        engine = self.engine
        assert len(engine.having(_A.QUEUED, _A.RUNNING)) <= engine.most
        if is_calm and engine.goes and not engine.mail:
            before = (engine.statuses, engine.in_flight if engine.window else None)
            engine.advance()
            after = (engine.statuses, engine.in_flight if engine.window else None)
            assert (before, []) == (after, engine.mail), "nobody had asked for `advance`"

    def ordinary(self) -> Iterator[Event]:
        engine = self.engine
        yield from (("deliver", number) for number in range(len(engine.mail)))
        if engine.mail:
            yield "deliver_all", None
        running = engine.having(_A.RUNNING)
        yield from (("finish", [name]) for name in running)
        if len(running) > 1:
            yield "finish", running
        if self.spare["try_again"]:
            yield from (("try_again", name) for name in running)
        if engine.status is RunStatus.RUNNING:
            yield from (("wake", name) for name in engine.having(_A.WAITING))

    def controls(self) -> Iterator[Event]:
        engine = self.engine
        if engine.status is RunStatus.PAUSED:
            yield "resume", None
        elif self.spare["pause"] and not engine.is_stop_wanted:
            yield "pause", None
        if self.spare["cancel"]:
            yield "cancel", None

    def mishaps(self) -> Iterator[Event]:
        engine = self.engine
        if not engine.mail:
            yield "sweep", None
        if self.spare["mishap"]:
            yield "advance_unasked", None
            yield from (("drop", number) for number in range(len(engine.mail)))
            yield from (("double", number) for number in range(len(engine.mail)))
            yield from (("lose_worker", name) for name in engine.having(_A.RUNNING))

    def deliver(self, number: int) -> None:
        self.engine.deliver(self.engine.mail[number])

    def deliver_all(self, _: None) -> None:
        for _message in range(MANY_MESSAGES):
            if not self.engine.mail:
                return
            self.deliver(0)
        raise AssertionError("one message leads to the next without end")

    def finish(self, names: list[str]) -> None:
        self.engine.finish_all({name: self.graph[name].fate for name in names})

    def try_again(self, name: str) -> None:
        self.spare["try_again"] -= 1
        self.engine.finish_all({name: _A.WAITING})

    def wake(self, name: str) -> None:
        self.engine.wake(name)

    def pause(self, _: None) -> None:
        self.spare["pause"] -= 1
        self.engine.pause_run()

    def resume(self, _: None) -> None:
        self.engine.resume_run()

    def cancel(self, _: None) -> None:
        self.spare["cancel"] -= 1
        self.engine.stop_run()

    def sweep(self, _: None) -> None:
        self.engine.sweep()

    def advance_unasked(self, _: None) -> None:
        self.spare["mishap"] -= 1
        self.engine.advance()

    def drop(self, number: int) -> None:
        self.spare["mishap"] -= 1
        del self.engine.mail[number]

    def double(self, number: int) -> None:
        self.spare["mishap"] -= 1
        self.engine.mail.append(self.engine.mail[number])

    def lose_worker(self, name: str) -> None:
        self.spare["mishap"] -= 1
        self.engine.lose_worker(name)


def started(graph: Graph, fields: Mapping[str, object], data: st.DataObject) -> Driver:
    engine = Engine(
        plan=plan_of(graph, fields),
        holds=lambda name: graph[name].holds or False,
        may_start=partial(may_start, graph, fields["strategy"]),
    )
    return Driver(engine, graph, data)


def assert_ended_by_the_rules(driver: Driver, *, kept: Statuses = MappingProxyType({})) -> None:
    statuses = driver.engine.statuses
    promised = foretold(driver.graph, kept)
    assert all(status in TERMINAL_AGENT_RUN for status in statuses.values())
    if driver.engine.plan.failure.mode == "partial" or FAILED.isdisjoint(promised.values()):
        assert statuses == promised
        return
    assert not FAILED.isdisjoint(statuses.values())
    for name, status in statuses.items():
        assert status in (promised[name], _A.SKIPPED, _A.CANCELLED)


@given(graphs(), policies(), st.data())
@settings(max_examples=600)
def test_any_run_ends_as_foretold_and_nothing_waits_for_the_sweeper(
    graph: Graph, fields: dict[str, object], data: st.DataObject
) -> None:
    note(f"{fields} {graph}")
    driver = started(graph, fields, data)

    driver.run()

    assert_ended_by_the_rules(driver)


@given(graphs(), policies(), st.data())
@settings(max_examples=300)
def test_any_run_survives_lost_and_doubled_messages_and_lost_workers(
    graph: Graph, fields: dict[str, object], data: st.DataObject
) -> None:
    note(f"{fields} {graph}")
    driver = started(graph, fields, data)

    driver.run(is_harsh=True)

    assert_ended_by_the_rules(driver)


@given(graphs(), policies(), st.booleans(), st.data())
@settings(max_examples=300)
def test_any_run_can_be_paused_and_cancelled_at_any_time(
    graph: Graph, fields: dict[str, object], is_harsh: bool, data: st.DataObject
) -> None:
    note(f"{fields} {graph}")
    driver = started(graph, fields, data)

    driver.run(is_controlled=True, is_harsh=is_harsh)

    if driver.spare["cancel"]:
        assert_ended_by_the_rules(driver)
    assert all(status in TERMINAL_AGENT_RUN for status in driver.engine.statuses.values())


@given(graphs(), policies(), st.data())
@settings(max_examples=300)
def test_any_run_that_did_not_complete_can_be_taken_up_again(
    graph: Graph, fields: dict[str, object], data: st.DataObject
) -> None:
    note(f"{fields} {graph}")
    driver = started(graph, fields, data)
    driver.run(is_controlled=True)
    assume(driver.engine.status is not RunStatus.COMPLETED)
    kept = dict.fromkeys(driver.engine.having(_A.COMPLETED), _A.COMPLETED)
    driver.graph.update(data.draw(other_fates(graph)))

    driver.engine.retry_run()
    driver.run()

    assert_ended_by_the_rules(driver, kept=kept)


def test_message_from_before_a_retry_leaves_no_step_unheard() -> None:
    plan = plan_of({"s0": ALONE}, {"strategy": "levels"})
    engine = Engine(plan=plan, holds=lambda _name: True, may_start=lambda _name, _statuses: True)
    engine.deliver(engine.mail[0])
    engine.deliver(engine.mail[0])
    engine.finish_all({"s0": _A.WAITING})
    engine.deliver(engine.mail[0])
    engine.wake("s0")
    (old,) = engine.mail
    engine.stop_run()
    engine.deliver(engine.mail[-1])
    engine.retry_run()
    engine.deliver(engine.mail[-1])

    engine.deliver(old)
    while engine.mail:
        engine.deliver(engine.mail[0])
    engine.finish_all({"s0": _A.COMPLETED})

    assert engine.mail
