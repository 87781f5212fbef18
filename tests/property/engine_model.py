"""The engine in memory: what `engine.sql`, `advance` and the sweeper do with a run's rows, and the
messages that are on their way. Methods have the names of the SQL functions that they follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.core.completion import Outcome, verdict
from orchestrator.core.plan import Plan, PlannedStep
from orchestrator.core.scheduling import Decision, Progress, ready
from orchestrator.core.state import (
    TERMINAL_AGENT_RUN,
    TERMINAL_RUN,
    AgentRunStatus,
    RunStatus,
    check_transition,
)

_A, _R = AgentRunStatus, RunStatus
_TRIES_AGAIN = frozenset({_A.WAITING, _A.QUEUED})


@dataclass(eq=False, slots=True)
class Chord:
    """Asks for `advance` once the message of each member was worked off."""

    left: set[str]


@dataclass(eq=False, slots=True)
class Message:
    """For `advance`, or for the agent run of a step."""

    step: str | None = None
    chord: Chord | None = None


@dataclass(slots=True)
class Row:
    step: PlannedStep
    status: AgentRunStatus = _A.PENDING
    tells: bool = False
    in_chord: bool = False
    message: Message | None = None  # what a worker is working off


@dataclass(slots=True)
class Counted:
    left: int
    steps: tuple[str, ...]
    tells: bool


@dataclass(slots=True, kw_only=True)
class Engine:
    plan: Plan
    holds: Callable[[str], bool | str]  # the truth of a step's condition
    may_start: Callable[[str, Mapping[str, AgentRunStatus]], bool]
    status: RunStatus = _R.PENDING
    window: int | None = None
    in_flight: int = 0
    is_advance_wanted: bool = False
    is_stop_wanted: bool = False
    has_begun: bool = False
    mail: list[Message] = field(default_factory=lambda: [Message()])
    rows: dict[str, Row] = field(default_factory=dict)
    gates: list[Counted] = field(default_factory=list)
    queue: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rows = {step.name: Row(step, tells=step.tells) for step in self.plan.steps}
        self.gates = [Counted(gate.needs, gate.steps, gate.tells) for gate in self.plan.gates]
        if self.plan.strategy == "adaptive" and len(self.rows) > (
            self.plan.max_parallel or len(self.rows)
        ):
            self.window = self.plan.max_parallel

    @property
    def most(self) -> int:
        return self.plan.max_parallel or 1000

    @property
    def statuses(self) -> dict[str, AgentRunStatus]:
        return {name: row.status for name, row in self.rows.items()}

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL_RUN

    @property
    def goes(self) -> bool:
        return self.status is _R.RUNNING and not self.is_stop_wanted

    def having(self, *statuses: AgentRunStatus) -> list[str]:
        return [name for name, row in self.rows.items() if row.status in statuses]

    # Messages

    def deliver(self, message: Message) -> None:
        self.mail.remove(message)
        if message.step is None:
            self.advance()
        else:
            self.claim(self.rows[message.step], message)

    def claim(self, row: Row, message: Message) -> None:
        if row.status is not _A.QUEUED or not self.goes:
            self.work_off(row.step.name, message)
            return
        self.move(row, _A.RUNNING)
        row.message = message

    def work_off(self, name: str, message: Message | None) -> None:
        chord = message.chord if message else None
        if chord and name in chord.left:
            chord.left.remove(name)
            if not chord.left:
                self.mail.append(Message())

    def want_advance(self) -> None:
        if not self.is_advance_wanted and self.status in (_R.PENDING, _R.RUNNING):
            self.is_advance_wanted = True
            self.mail.append(Message())

    def move(self, row: Row, status: AgentRunStatus) -> None:
        check_transition(row.status, status)
        if row.status is _A.PENDING and status in (_A.READY, _A.QUEUED, _A.WAITING):
            assert self.may_start(row.step.name, self.statuses)
        row.status = status

    # What ends steps

    def finish_all(
        self, outcomes: Mapping[str, AgentRunStatus], *, ended: AgentRunStatus = _A.RUNNING
    ) -> None:
        done = [row for name in outcomes if (row := self.rows[name]).status is ended]
        told = [row for row in done if row.tells]
        for row in done:
            self._end(row, outcomes[row.step.name])
        again = [row for row in done if row.status is _A.QUEUED]
        self.mail += [Message(row.step.name) for row in again]
        counted = [row for row in done if row.in_chord and not row.tells]
        if not all(row in again or (row in counted and row.status is _A.COMPLETED) for row in done):
            places = len(done) - len(again) if ended is _A.RUNNING else 0
            self._follow(done, places=places, tell=any(row not in again for row in told))
        for row in done:
            message, row.message = row.message, None
            self.work_off(row.step.name, message)

    def _end(self, row: Row, status: AgentRunStatus) -> None:
        self.move(row, status)
        if status in _TRIES_AGAIN:
            row.tells |= row.in_chord
            row.in_chord = False

    def _follow(self, done: Collection[Row], *, places: int, tell: bool) -> None:
        completed = [row for row in done if row.status is _A.COMPLETED]
        bad = [row for row in done if row.status not in _TRIES_AGAIN | {_A.COMPLETED}]
        due = [name for row in completed for name in row.step.next_steps]
        opened, asks = self.lower_gates(_gates(completed), spoiled=_gates(bad))
        tell = tell or bool(bad) or asks
        self.hand_out([*due, *opened], ended=places, tell=tell)

    def lower_gates(self, numbers: list[int], *, spoiled: list[int]) -> tuple[list[str], bool]:
        touched = [self.gates[number] for number in sorted({*numbers, *spoiled})]
        for number in spoiled:
            self.gates[number].tells = True
            self.gates[number].steps = ()
        for number in [*numbers, *spoiled]:
            self.gates[number].left = max(self.gates[number].left - 1, 0)
        opened = [gate for gate in touched if not gate.left]
        return [name for gate in opened for name in gate.steps], any(g.tells for g in opened)

    def settle_steps(self, names: Iterable[str], status: AgentRunStatus) -> None:
        settled = [row for name in names if (row := self.rows[name]).status is _A.PENDING]
        for row in settled:
            self.move(row, status)
        spoiled = _gates(settled)
        if spoiled and self.lower_gates([], spoiled=spoiled)[1]:
            self.want_advance()

    def stop_steps(self, pending: AgentRunStatus) -> int:
        for row in self.rows.values():
            if row.status in (_A.PENDING, _A.READY, _A.QUEUED, _A.WAITING):
                self.move(row, pending if row.status is _A.PENDING else _A.CANCELLED)
        running = self.having(_A.RUNNING)
        for name in running:
            self.rows[name].in_chord, self.rows[name].tells = False, True
        self.in_flight = len(running)
        return len(running)

    # What hands out steps

    def hand_out(self, due: Iterable[str], *, ended: int, tell: bool) -> None:
        if self.goes and self.window is None:
            self.queue_up(due)
        else:
            self.in_flight -= ended
            self.make_ready(due)
            if self.goes and self.window is not None:
                self.in_flight += self.take_ready(max(self.window - self.in_flight, 0))
        if tell or (self.window is not None and ended and self.in_flight <= 0):
            self.want_advance()

    def queue_up(self, names: Iterable[str], *, chord: Chord | None = None) -> int:
        moved = [
            row
            for name in names
            if (row := self.rows[name]).status in (_A.PENDING, _A.READY, _A.WAITING)
        ]
        for row in moved:
            self.move(row, _A.QUEUED)
            row.in_chord = chord is not None
            self.mail.append(Message(row.step.name, chord))
        return len(moved)

    def make_ready(self, names: Iterable[str]) -> None:
        for row in map(self.rows.__getitem__, names):
            if row.status in (_A.PENDING, _A.QUEUED, _A.WAITING):
                self.move(row, _A.READY)
                row.tells |= row.in_chord
                row.in_chord = False
                self.queue.add(row.step.name)

    def take_ready(self, room: int | None) -> int:
        def urgency(name: str) -> tuple[int, int]:
            step = self.rows[name].step
            return -step.priority, step.position

        taken = sorted(self.queue, key=urgency)[:room]
        self.queue -= set(taken)
        return self.queue_up(taken)

    def top_up(self, due: Iterable[str] = ()) -> None:
        self.in_flight = len(self.having(_A.QUEUED, _A.RUNNING))
        if self.window is None:
            self.take_ready(None)
        self.hand_out(due, ended=0, tell=False)

    def queue_level(self, level: int) -> None:
        due = [name for name in self.having(_A.PENDING) if self.rows[name].step.level == level]
        if len(due) <= self.most:
            self.window = None
            self.queue_up(due, chord=Chord(set(due)))
        else:
            self.window = self.most
            self.top_up(due)

    def wake(self, name: str) -> None:
        """The pause before another attempt is over, or a delay."""
        if self.rows[name].step.kind == "delay":
            self.finish_all({name: _A.COMPLETED}, ended=_A.WAITING)
        else:
            self.hand_out([name], ended=0, tell=False)

    def lose_worker(self, name: str) -> None:
        """The worker is gone, with the message that it had not worked off."""
        self.rows[name].message = None
        self.finish_all({name: _A.QUEUED})

    # What drives the run

    def advance(self) -> None:
        judged: dict[str, bool | str] = {}
        while self._begins() and self._step(judged):
            pass

    def _begins(self) -> bool:
        if self.status not in (_R.PENDING, _R.RUNNING) and not (
            self.status is _R.PAUSED and self.is_stop_wanted
        ):
            return False
        self.is_advance_wanted = False
        self.status, self.has_begun = _R.RUNNING, True
        return True

    def _step(self, judged: dict[str, bool | str]) -> bool:
        if self.is_stop_wanted:
            if not self.stop_steps(_A.CANCELLED):
                self.finish_run(_R.CANCELLED)
            return False
        decision = ready(self.plan, self.progress(judged))
        for name in decision.judge:
            assert name not in judged
            judged[name] = self.holds(name)
        return bool(decision.judge) or self._act(decision)

    def _act(self, decision: Decision) -> bool:
        if decision.stop:
            if not self.stop_steps(_A.SKIPPED):
                self.finish_run(self._verdict())
            return False
        self.settle_steps(decision.skip, _A.SKIPPED)
        self.settle_steps(decision.fail, _A.FAILED)
        if decision.is_settled:
            self.finish_run(self._verdict())
        elif not decision.fail:
            self._hand_out(decision)
        return bool(decision.fail)

    def _hand_out(self, decision: Decision) -> None:
        for name in decision.wait:
            self.start_wait(name)
        if decision.level is not None and decision.dispatch:
            self.queue_level(decision.level)
        else:
            self.top_up(decision.dispatch)

    def start_wait(self, name: str) -> None:
        row = self.rows[name]
        self.move(row, _A.WAITING)
        row.tells = True

    def progress(self, judged: Mapping[str, bool | str]) -> Progress:
        return progress_of(self.plan, self.statuses, judged)

    def finish_run(self, status: RunStatus) -> None:
        assert not self.is_over
        self.status = status
        self.queue.clear()
        self.in_flight, self.is_stop_wanted = 0, False

    def _verdict(self) -> RunStatus:
        outcomes = [Outcome(name=name, status=status) for name, status in self.statuses.items()]
        return verdict(outcomes, self.plan.failure).status

    def stop_run(self) -> None:
        if not self.is_over and not self.is_stop_wanted:
            self.is_stop_wanted = self.is_advance_wanted = True
            self.mail.append(Message())

    def pause_run(self) -> None:
        self.status = _R.PAUSED
        self.make_ready(self.having(_A.QUEUED))
        for name in self.having(_A.RUNNING):
            row = self.rows[name]
            row.tells |= row.in_chord
            row.in_chord = False

    def resume_run(self) -> None:
        self.status = _R.RUNNING if self.has_begun else _R.PENDING
        self.is_advance_wanted = True
        self.mail.append(Message())

    def retry_run(self) -> None:
        self.status = _R.RUNNING
        self.is_advance_wanted = True
        self.mail.append(Message())
        for row in self.rows.values():
            if row.status is not _A.COMPLETED:
                self.move(row, _A.PENDING)
                row.in_chord, row.tells = False, True
        open_gates = Counter(_gates(self.rows[name] for name in self.having(_A.PENDING)))
        for number, gate in enumerate(self.gates):
            gate.tells, gate.steps, gate.left = True, (), open_gates[number]

    # The sweeper

    def sweep(self) -> None:
        """Finds attempts without a worker, messages that were lost, and runs that nobody drives."""
        if self.is_over:
            return
        on_its_way = {message.step for message in self.mail}
        if self.status is _R.RUNNING:
            for name in self.having(_A.QUEUED):
                if name not in on_its_way:
                    row = self.rows[name]
                    row.tells |= row.in_chord
                    row.in_chord = False
                    self.mail.append(Message(name))
        at_work = self.having(_A.QUEUED, _A.RUNNING, _A.WAITING)
        is_left = self.is_advance_wanted or self.is_stop_wanted or not at_work
        if is_left and (self.status is not _R.PAUSED or self.is_stop_wanted):
            self.is_advance_wanted = True
            self.mail.append(Message())


def _gates(rows: Iterable[Row]) -> list[int]:
    return [number for row in rows for number in row.step.gates]


def progress_of(
    plan: Plan,
    statuses: Mapping[str, AgentRunStatus],
    judged: Mapping[str, bool | str] | None = None,
) -> Progress:
    """As `muster_begin_advance` tells it."""
    if plan.strategy == "adaptive":
        begun = {name: status for name, status in statuses.items() if status is not _A.PENDING}
        return Progress.of(begun, None, judged or {})
    unsettled: dict[str, Counter[str]] = {}
    for name, status in statuses.items():
        if status not in TERMINAL_AGENT_RUN:
            unsettled.setdefault(str(plan.step(name).level), Counter())[status] += 1
    settled = {
        name: status
        for name, status in statuses.items()
        if (status in TERMINAL_AGENT_RUN and status is not _A.COMPLETED)
        or (
            status is not _A.PENDING and _A.PENDING in unsettled.get(str(plan.step(name).level), {})
        )
    }
    return Progress.of(settled, unsettled, judged or {})
