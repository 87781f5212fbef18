"""The workflows of a storm, of which is known how each step must end."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

PROVIDER: Final = "compatible"
MODEL: Final = "storm"
LEAF: Final = "leaf"
ANSWER: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["route", "said"],
    "properties": {"route": {"type": "string"}, "said": {"type": "string"}},
}
_IN_LOOP: Final = re.compile(r"(.+)\[(\d+)\]\.(\w+)")
# The turn in which something was handed out, behind the number of the retry by hand.
_TURN: Final = re.compile(r"\.(\d+)(?=\.)")
_TURNS: Final = 10_000

Kind = Literal[
    "ask",
    "act",
    "echo",
    "gather",
    "delay",
    "list",
    "map",
    "loop",
    "call",
    "add",
    "approval",
    "delegate",
    "plan",
]
Verdict = Literal["approve", "reject", "expire"]
Strategy = Literal["adaptive", "levels", "sequential"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vertex:
    """A step. Needs stand before it, so a flow's order is a topological one.

    The provider refuses an `ask` that is `failing` for good, and the first `stumbles` requests
    of any other. An `act` is an ask whose model calls tools in its first `turns`. An `approval`
    that is `failing` fails when it is rejected, or expires. A `loop` or a `call` that is `failing`
    begins with an ask that is.

    A `delegate` and a `plan` are asks that hand out `adds` in their first turn, then `adds_later`:
    the one by calling tools, the other as tasks of a plan, which may need each other. It answers
    with all that came of them.
    """

    name: str
    kind: Kind = "ask"
    needs: tuple[str, ...] = ()
    join: Literal["all", "any"] = "all"
    runs_if: str = ""  # the route that its only need has to answer
    route: str = ""
    failing: bool = False
    fails_if: str = ""  # the variable that says whether it is failing, where only the run knows
    stumbles: tuple[int, ...] = ()
    seconds: float = 0.0
    priority: int = 5
    # Of a list, and of the map over it: whether each item fails, what share of them may, and what
    # the map makes of each.
    items: tuple[bool, ...] = ()
    allow_failed: float = 0.0
    of: Literal["ask", "loop", "call"] = "ask"
    adds: tuple[Vertex, ...] = ()  # to its run, by an ask
    adds_later: tuple[Vertex, ...] = ()
    is_poor: bool = False  # what it hands out may cost less than any call
    is_made: bool = False  # of a task: done by an agent that is made for it, and answers in text
    rounds: int = 0  # of a loop
    turns: int = 0
    verdict: Verdict = "approve"  # of people on an approval; `seconds` is how long it may take them

    @property
    def hands(self) -> list[tuple[Vertex, ...]]:
        """What it hands out, turn by turn."""
        return [handed for handed in (self.adds, self.adds_later) if handed]


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

    def doomed(self) -> Flow:
        """It as it is in a run whose variables say that steps fail."""
        vertices = tuple(replace(v, failing=v.failing or v.fails_if != "") for v in self.vertices)
        return replace(self, vertices=vertices)


def said(marker: str, step: str) -> str:
    return f"{step} of {marker}"


def called(marker: str, place: str) -> str:
    """The marker of the run that is started at a place in the marked one."""
    return f"{marker}/{place}"


def place_of(step: str) -> str:
    """Its place in the flow: what is handed out anew after a retry has the place of the first."""
    return _TURN.sub(lambda found: f".{int(found[1]) % _TURNS}", step)


def asked_as(step: str) -> str:
    """What the provider is told of an agent run's place: it sees a loop's rounds from 1 on."""
    place = place_of(step)
    found = _IN_LOOP.fullmatch(place)
    return f"{found[1]}.{int(found[2]) + 1}.{found[3]}" if found else place
