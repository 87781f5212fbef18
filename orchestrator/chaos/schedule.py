"""What happens when: drawn from the seed before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

RUNS_OF_BATCH: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a storm is: over how many seconds, how many runs, how many faults of each kind."""

    seconds: float
    runs: int
    flows: int
    workers: int
    batches: int
    faults: Mapping[str, int]
    # How likely workers die at their crash points, against `crew.POINTS`, and how often each of
    # the points has to be hit, at least.
    eagerness: float = 1.0
    crashes: int = 0


SHORT: Final = Size(
    seconds=25,
    runs=36,
    flows=20,
    workers=2,
    batches=2,
    eagerness=3.0,
    faults={
        "kill_agents": 4,
        "kill_control": 1,
        "freeze": 1,
        "wipe": 1,
        "stale": 1,
        "postgres": 1,
        "no_control": 1,
        "duplicate": 10,
        "drop": 6,
        "stray": 3,
        "dismiss": 1,
    },
)
LONG: Final = Size(
    seconds=420,
    runs=320,
    flows=56,
    workers=4,
    batches=12,
    eagerness=0.7,
    faults={
        "kill_agents": 50,
        "kill_control": 12,
        "freeze": 8,
        "wipe": 6,
        "stale": 4,
        "postgres": 4,
        "no_control": 4,
        "duplicate": 120,
        "drop": 60,
        "stray": 20,
        "dismiss": 16,
    },
    crashes=5,
)


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """`pick` in [0, 1) chooses among what the fault may hit."""

    at: float
    kind: str
    pick: float


@dataclass(frozen=True, slots=True, order=True)
class Deed:
    """What a person does with a run: start, cancel, pause, resume or retry it.

    A batch goes by the number of its first run, and is started or cancelled as a whole.
    """

    at: float
    what: str
    run: int


class Spread(Protocol):
    """How many faults of each kind there are, over how many seconds."""

    @property
    def seconds(self) -> float: ...

    @property
    def faults(self) -> Mapping[str, int]: ...


def faults(rng: Random, size: Spread) -> list[Fault]:
    """Each kind spread over the whole time."""
    return sorted(
        Fault(round((number + rng.random()) / count * size.seconds, 3), kind, rng.random())
        for kind, count in size.faults.items()
        for number in range(count)
    )


def deeds(rng: Random, size: Size) -> list[Deed]:
    of_runs = [deed for run in range(size.runs) for deed in _of_run(rng, run, size)]
    of_batches = [deed for batch in range(size.batches) for deed in _of_batch(rng, batch, size)]
    return sorted(of_runs + of_batches)


def _of_batch(rng: Random, batch: int, size: Size) -> Iterator[Deed]:
    began = rng.uniform(0, size.seconds * 0.9)
    first = size.runs + batch * RUNS_OF_BATCH
    yield Deed(began, "batch", first)
    if rng.random() < 0.5:
        yield Deed(began + rng.uniform(0.1, 5), "cancel_batch", first)


def _of_run(rng: Random, run: int, size: Size) -> Iterator[Deed]:
    began = rng.uniform(0, size.seconds * 0.95)
    yield Deed(began, "start", run)
    if rng.random() < 0.15:
        yield Deed(began + rng.uniform(0.1, 6), "cancel", run)
    if rng.random() < 0.2:
        paused = began + rng.uniform(0.1, 4)
        yield Deed(paused, "pause", run)
        yield Deed(paused + rng.uniform(0.5, 5), "resume", run)
    if rng.random() < 0.25:
        yield Deed(began + rng.uniform(5, 20), "retry", run)
