"""Flows of mixed shape, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

from orchestrator.chaos.flows import LEAF, Flow, Kind, Strategy, Verdict, Vertex
from orchestrator.chaos.oracle import MAX_DEPTH

ROUTES: Final = ("left", "right")
_STRATEGIES: Final[tuple[Strategy, ...]] = ("adaptive", "levels", "sequential")


def flows(rng: Random, count: int) -> list[Flow]:
    """So many flows, every shape among them. The first is what others call."""
    leaf = Flow(name=LEAF, vertices=tuple(_leaf(rng)), strategy="adaptive")
    return [leaf, *(_flow(rng, number) for number in range(count - 1))]


def _flow(rng: Random, number: int) -> Flow:
    shape = _SHAPES[number % len(_SHAPES)]
    vertices = tuple(shape(rng))
    wide = len(vertices) > 8
    is_hasty = shape is _fragile or (shape is _adding and number % 2 == 1)
    return Flow(
        name=f"{shape.__name__.strip('_').replace('_', '-')}-{number}",
        vertices=vertices,
        # By turns rather than by lot: shape after shape meets strategy after strategy.
        strategy=_STRATEGIES[(number + number // len(_SHAPES)) % len(_STRATEGIES)],
        mode="fail_fast" if is_hasty else "partial",
        max_failed_ratio=rng.choice((0.1, 0.5, 1.0)),
        max_parallel=rng.choice((None, 2, 5)) if wide else None,
        deadline="6s" if shape is _late else None,
    )


def _leaf(rng: Random) -> Iterator[Vertex]:
    top, *below = _diamonds(rng)
    yield replace(top, fails_if="${input.failing ?? false}")
    yield from below


def _latency(rng: Random) -> float:
    return round(min(0.25 * rng.lognormvariate(0, 0.7), 3.0), 3)


def _asking(rng: Random, name: str, **fields: Any) -> Vertex:
    return Vertex(name=name, seconds=_latency(rng), route=rng.choice(ROUTES), **fields)


def _wide(rng: Random) -> Iterator[Vertex]:
    yield _asking(rng, "root")
    names = [f"w{i}" for i in range(rng.randint(8, 20))]
    for name in names:
        yield _asking(rng, name, needs=("root",), priority=rng.choice((1, 5, 9)))
    yield Vertex(name="all", kind="gather", needs=tuple(names))


def _deep(rng: Random) -> Iterator[Vertex]:
    before: tuple[str, ...] = ()
    for number in range(rng.randint(6, 12)):
        kind: Kind = rng.choice(("ask", "ask", "echo"))
        vertex = _asking(rng, f"d{number}", needs=before)
        yield replace(vertex, kind=kind)
        before = (vertex.name,)


def _diamonds(rng: Random) -> Iterator[Vertex]:
    yield _asking(rng, "top")
    below = "top"
    for number in range(rng.randint(2, 4)):
        sides = tuple(f"{side}{number}" for side in ("a", "b", "c"))
        for side in sides:
            yield _asking(rng, side, needs=(below,))
        below = f"foot{number}"
        yield Vertex(name=below, kind="gather", needs=sides)


def _branches(rng: Random) -> Iterator[Vertex]:
    yield _asking(rng, "choose")
    for route in ROUTES:
        yield _asking(rng, route, needs=("choose",), runs_if=route)
        yield Vertex(name=f"after_{route}", kind="echo", needs=(route,))
    ends = tuple(f"after_{route}" for route in ROUTES)
    yield _asking(rng, "either", needs=ends, join="any")
    yield Vertex(name="both", kind="gather", needs=ends)
    yield Vertex(name="end", kind="gather", needs=("either", "both"))


def _stumbling(rng: Random) -> Iterator[Vertex]:
    yield _asking(rng, "start", stumbles=(429,))
    names = [f"s{i}" for i in range(rng.randint(3, 6))]
    for name in names:
        stumbles = tuple(rng.choice((429, 500, 503)) for _ in range(rng.randint(0, 2)))
        yield _asking(rng, name, needs=("start",), stumbles=stumbles)
    yield Vertex(name="all", kind="gather", needs=tuple(names))


def _broken(rng: Random) -> Iterator[Vertex]:
    yield from _tangle(rng, failing=0.2)


def _fragile(rng: Random) -> Iterator[Vertex]:
    yield from _tangle(rng, failing=0.15)


def _tangled(rng: Random) -> Iterator[Vertex]:
    yield from _tangle(rng, failing=0.0)


def _pausing(rng: Random) -> Iterator[Vertex]:
    yield _asking(rng, "first")
    yield Vertex(name="pause", kind="delay", seconds=rng.randint(1, 3), needs=("first",))
    yield _asking(rng, "meanwhile", needs=("first",))
    yield Vertex(name="end", kind="gather", needs=("pause", "meanwhile"))


def _mapping(rng: Random) -> Iterator[Vertex]:
    yield from _mapped(rng, of="ask", most=12)


def _mapping_loops(rng: Random) -> Iterator[Vertex]:
    yield from _mapped(rng, of="loop", most=5, rounds=rng.randint(1, 3))


def _mapping_calls(rng: Random) -> Iterator[Vertex]:
    yield from _mapped(rng, of="call", most=4)


def _mapped(rng: Random, *, most: int, **fields: Any) -> Iterator[Vertex]:
    items = tuple(rng.random() < 0.2 for _ in range(rng.randint(0, most)))
    yield Vertex(name="list", kind="list", items=items)
    allow_failed = rng.choice((0.0, 0.5, 1.0))
    each = _asking(rng, "each", needs=("list",), items=items, allow_failed=allow_failed, **fields)
    yield replace(each, kind="map")
    yield _asking(rng, "beside", needs=("list",))
    yield Vertex(name="end", kind="gather", needs=("each", "beside"))


def _looping(rng: Random) -> Iterator[Vertex]:
    yield _asking(rng, "first")
    loop = _asking(rng, "polish", needs=("first",), rounds=rng.randint(1, 3))
    yield replace(loop, kind="loop")
    yield Vertex(name="end", kind="echo", needs=("polish",))


def _calling(rng: Random) -> Iterator[Vertex]:
    yield _asking(rng, "first")
    yield Vertex(name="sub", kind="call", needs=("first",))
    yield _asking(rng, "beside", needs=("first",))
    yield Vertex(name="end", kind="gather", needs=("sub", "beside"))


def _adding(rng: Random) -> Iterator[Vertex]:
    yield from _planned(rng, "plan", rng.choice(_ADDED))


def _adding_more(rng: Random) -> Iterator[Vertex]:
    yield from _planned(rng, "deeper", _diamonds)


def _planned(rng: Random, by: str, shape: Callable[[Random], Iterator[Vertex]]) -> Iterator[Vertex]:
    yield _asking(rng, "first")
    plan = _asking(rng, by, needs=("first",), adds=tuple(shape(rng)))
    yield replace(plan, kind="add")
    yield _asking(rng, "beside", needs=("first",))
    yield Vertex(name="all", kind="gather", needs=(by, "beside"))


def _deciding(rng: Random) -> Iterator[Vertex]:
    yield _asking(rng, "first")
    verdicts: tuple[Verdict, ...] = ("approve", "reject", "expire")
    for verdict in verdicts:
        fails = verdict != "approve" and rng.random() < 0.3
        yield Vertex(
            name=verdict,
            kind="approval",
            verdict=verdict,
            seconds=rng.randint(1, 4),
            failing=fails,
            needs=("first",),
        )
    yield _asking(rng, "meanwhile", needs=("first",))
    yield Vertex(name="agreed", kind="echo", needs=("meanwhile", "approve"))
    yield Vertex(name="end", kind="echo", needs=("first", *verdicts))


def _acting(rng: Random) -> Iterator[Vertex]:
    yield _asking(rng, "first")
    for number in range(rng.randint(2, 4)):
        act = _asking(rng, f"act{number}", needs=("first",), turns=rng.randint(1, 4))
        yield replace(act, kind="act", seconds=act.seconds / 3)
    names = tuple(f"act{number}" for number in range(2))
    yield Vertex(name="end", kind="gather", needs=names)


def _delegating(rng: Random) -> Iterator[Vertex]:
    """One that hands out this and that, turn after turn, one without money, one that goes deep."""
    yield _asking(rng, "first")
    below = [_hand(rng, name) for name in ("hand", "hand_2", "hand_3")[: rng.randint(1, 3)]]
    leaf = Vertex(name="leaf", kind="call", failing=rng.random() < 0.3)
    yield _handing(rng, "some", adds=(*below, leaf), adds_later=(_hand(rng, "hand"),))
    yield _handing(rng, "poor", adds=(_hand(rng, "hand"), _hand(rng, "hand_2")), is_poor=True)
    deep = _hand(rng, "hand")
    for depth in range(MAX_DEPTH):
        # Who asks its like has it called otherwise.
        deep = _handing(rng, "lead" if depth % 2 == 0 else "lead_2", adds=(deep,), needs=())
    yield _handing(rng, "deep", adds=(deep,))
    yield Vertex(name="end", kind="gather", needs=("some", "poor", "deep"))


def _planning(rng: Random) -> Iterator[Vertex]:
    """One whose plan has tasks that need each other, and that hands out more; one without money."""
    yield _asking(rng, "first")
    dug = _hand(rng, "dig", failing=rng.random() < 0.3)
    plan = (
        dug,
        _hand(rng, "made", is_made=True, needs=("dig",)),
        _handing(rng, "lead", adds=(_hand(rng, "hand"),), needs=()),
        Vertex(name="again", kind="echo", needs=("dig",)),
        Vertex(name="call", kind="call"),
    )
    yield _handing(rng, "plan", kind="plan", adds=plan, adds_later=(_hand(rng, "blast"),))
    yield _handing(rng, "poor", kind="plan", adds=(_hand(rng, "dig"), plan[3]), is_poor=True)
    yield Vertex(name="end", kind="gather", needs=("plan", "poor"))


def _hand(rng: Random, name: str, **fields: Any) -> Vertex:
    return replace(_asking(rng, name, **fields), seconds=_latency(rng) / 3)


def _handing(
    rng: Random,
    name: str,
    *,
    kind: Kind = "delegate",
    needs: tuple[str, ...] = ("first",),
    **fields: Any,
) -> Vertex:
    asked = _asking(rng, name, needs=needs, **fields)
    return replace(asked, kind=kind, seconds=asked.seconds / 3)


def _late(rng: Random) -> Iterator[Vertex]:
    yield _asking(rng, "first")
    yield Vertex(name="pause", kind="delay", seconds=3600, needs=("first",))
    yield Vertex(name="never", kind="echo", needs=("pause",))


def _tangle(rng: Random, *, failing: float) -> Iterator[Vertex]:
    """Any graph: each step needs some of those before it."""
    names: list[str] = []
    for number in range(rng.randint(6, 14)):
        needs = tuple(sorted(_some(rng, names)))
        fails, is_any = rng.random() < failing, len(needs) > 1 and rng.random() < 0.3
        vertex = _asking(
            rng,
            f"t{number}",
            needs=needs,
            join="any" if is_any else "all",
            failing=fails,
            priority=rng.choice((2, 5, 5, 7)),
        )
        # What a step gives that passes on outputs would hang on which of its needs was first.
        kind: Kind = "ask" if fails or is_any else rng.choice(("ask", "ask", "echo", "gather"))
        yield replace(vertex, kind="echo" if kind == "gather" and not needs else kind)
        names.append(vertex.name)


def _some(rng: Random, names: Sequence[str]) -> list[str]:
    return rng.sample(names, min(len(names), rng.choice((0, 1, 1, 2, 3))))


# What an agent may add: all kinds of steps, and one that adds steps in its turn.
_ADDED: Final = (
    _branches,
    _stumbling,
    _broken,
    _pausing,
    _mapping,
    _mapping_loops,
    _mapping_calls,
    _looping,
    _calling,
    _adding_more,
    _delegating,
)
_SHAPES: Final = (
    _wide,
    _deep,
    _diamonds,
    _branches,
    _stumbling,
    _broken,
    _fragile,
    _tangled,
    _pausing,
    _mapping,
    _mapping_loops,
    _mapping_calls,
    _looping,
    _calling,
    _adding,
    _deciding,
    _acting,
    _delegating,
    _planning,
    _late,
)
