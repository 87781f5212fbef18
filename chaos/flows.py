"""Workflows of mixed shape, made from a seed, of which is known how each step must end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final, Literal

PROVIDER: Final = "compatible"
MODEL: Final = "storm"
LEAF: Final = "leaf"
ROUTES: Final = ("left", "right")
# Longer than whatever the storm holds up: a step that is late would fail for the storm's sake.
PATIENT: Final = "10m"
_IN_LOOP: Final = re.compile(r"(\w+)\[(\d+)\]\.(\w+)")
_ANSWER: Final = {
    "type": "object",
    "required": ["route", "said"],
    "properties": {"route": {"type": "string"}, "said": {"type": "string"}},
}


Kind = Literal["ask", "echo", "gather", "delay", "list", "map", "loop", "call"]
Strategy = Literal["adaptive", "levels", "sequential"]
_STRATEGIES: Final[tuple[Strategy, ...]] = ("adaptive", "levels", "sequential")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vertex:
    """A step. Needs stand before it, so a flow's order is a topological one.

    The provider refuses an `ask` that is `failing` for good, and the first `stumbles` requests
    of any other.
    """

    name: str
    kind: Kind = "ask"
    needs: tuple[str, ...] = ()
    join: Literal["all", "any"] = "all"
    runs_if: str = ""  # the route that its only need has to answer
    route: str = ""
    failing: bool = False
    stumbles: tuple[int, ...] = ()
    seconds: float = 0.0
    priority: int = 5
    # Of a list, and of the map over it: whether each item fails, and what share of them may.
    items: tuple[bool, ...] = ()
    allow_failed: float = 0.0
    rounds: int = 0  # of a loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    name: str
    vertices: tuple[Vertex, ...]
    strategy: Strategy
    mode: Literal["partial", "fail_fast"] = "partial"
    max_failed_ratio: float = 0.5
    max_parallel: int | None = None
    deadline: str | None = None

    @property
    def last(self) -> str:
        return self.vertices[-1].name


def flows(rng: Random, count: int) -> list[Flow]:
    """So many flows, every shape among them. The first is what others call."""
    leaf = Flow(name=LEAF, vertices=tuple(_diamonds(rng)), strategy="adaptive")
    return [leaf, *(_flow(rng, number) for number in range(count - 1))]


def spec_of(flow: Flow) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "muster": 1,
        "name": flow.name,
        "strategy": flow.strategy,
        "failure": {"mode": flow.mode, "max_failed_ratio": flow.max_failed_ratio},
        "inputs": {
            "type": "object",
            "required": ["marker"],
            "properties": {"marker": {"type": "string"}},
        },
        "defaults": {"timeout": PATIENT},
        "steps": {vertex.name: _step(vertex) for vertex in flow.vertices},
        "output": {"last": f"${{steps.{flow.last}.output ?? 'none'}}"},
    }
    optional = {"max_parallel": flow.max_parallel, "deadline": flow.deadline}
    return spec | {name: value for name, value in optional.items() if value is not None}


def said(marker: str, step: str) -> str:
    return f"{step} of {marker}"


def called(marker: str) -> str:
    """The marker of the run that a step of this one starts."""
    return f"{marker}/{LEAF}"


def asked_as(place: str) -> str:
    """What the provider is told of an agent run's place: it sees a loop's rounds from 1 on."""
    found = _IN_LOOP.fullmatch(place)
    return f"{found[1]}.{int(found[2]) + 1}.{found[3]}" if found else place


def _step(vertex: Vertex) -> dict[str, Any]:
    step: dict[str, Any] = {"priority": vertex.priority, **_KINDS[vertex.kind](vertex)}
    if vertex.needs:
        step |= {"needs": list(vertex.needs), "join": vertex.join}
    if vertex.runs_if:
        step["when"] = f'steps.{vertex.needs[0]}.output.route == "{vertex.runs_if}"'
    return step


def _ask(vertex: Vertex) -> dict[str, Any]:
    tries = len(vertex.stumbles) + 1
    return {
        "agent": {"type": "prompt", "provider": PROVIDER, "model": MODEL},
        "prompt": _script(vertex),
        "output_schema": _ANSWER,
        "retry": {"strategy": "constant", "attempts": tries, "base": "1s", "jitter": True},
    }


def _script(vertex: Vertex) -> str:
    """What the provider is to do, as the prompt that tells it so."""
    script = {
        "run": "${input.marker}",
        "step": vertex.name,
        "route": vertex.route,
        "failing": vertex.failing,
        "stumbles": vertex.stumbles,
        "seconds": vertex.seconds,
    }
    return json.dumps(script)


def _list(vertex: Vertex) -> dict[str, Any]:
    return {
        "agent": {"type": "tool", "tool": "echo"},
        "arguments": {"value": list(vertex.items)},
    }


def _map(vertex: Vertex) -> dict[str, Any]:
    step = _ask(replace(vertex, name=f"{vertex.name}[${{index}}]"))
    step["prompt"] = step["prompt"].replace('"failing": false', '"failing": ${item}')
    over = f"${{steps.{vertex.needs[0]}.output}}"
    return step | {"map": {"over": over, "parallel": 4, "allow_failed": vertex.allow_failed}}


def _loop(vertex: Vertex) -> dict[str, Any]:
    write = _ask(
        replace(vertex, name=f"{vertex.name}.${{loop.round}}.write", route="${loop.round}")
    )
    return {
        "loop": {
            "steps": {
                "write": write,
                "read": {**_echo(replace(vertex, needs=("write",))), "needs": ["write"]},
            },
            "until": f'steps.read.output.route == "{vertex.rounds}"',
            "max_rounds": vertex.rounds + 1,
            "output": "${steps.read.output}",
        }
    }


def _call(vertex: Vertex) -> dict[str, Any]:
    return {"workflow": LEAF, "input": {"marker": called("${input.marker}")}}


def _echo(vertex: Vertex) -> dict[str, Any]:
    value = f"${{steps.{vertex.needs[0]}.output ?? 'none'}}" if vertex.needs else vertex.name
    return {"agent": {"type": "tool", "tool": "echo"}, "arguments": {"value": value}}


def _gather(vertex: Vertex) -> dict[str, Any]:
    return {"agent": {"type": "aggregator"}}


def _delay(vertex: Vertex) -> dict[str, Any]:
    return {"delay": f"{vertex.seconds:.0f}s"}


_KINDS: Final[dict[str, Callable[[Vertex], dict[str, Any]]]] = {
    "ask": _ask,
    "echo": _echo,
    "gather": _gather,
    "delay": _delay,
    "list": _list,
    "map": _map,
    "loop": _loop,
    "call": _call,
}


def _flow(rng: Random, number: int) -> Flow:
    shape = _SHAPES[number % len(_SHAPES)]
    vertices = tuple(shape(rng))
    wide = len(vertices) > 8
    return Flow(
        name=f"{shape.__name__.strip('_').replace('_', '-')}-{number}",
        vertices=vertices,
        # By turns rather than by lot: shape after shape meets strategy after strategy.
        strategy=_STRATEGIES[(number + number // len(_SHAPES)) % len(_STRATEGIES)],
        mode="fail_fast" if shape is _fragile else "partial",
        max_failed_ratio=rng.choice((0.1, 0.5, 1.0)),
        max_parallel=rng.choice((None, 2, 5)) if wide else None,
        deadline="6s" if shape is _late else None,
    )


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
    items = tuple(rng.random() < 0.2 for _ in range(rng.randint(0, 12)))
    yield Vertex(name="list", kind="list", items=items)
    each = _asking(
        rng, "each", needs=("list",), items=items, allow_failed=rng.choice((0.0, 0.5, 1.0))
    )
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
    _looping,
    _calling,
    _late,
)
