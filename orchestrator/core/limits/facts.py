"""What the limiter is told of a call, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Unit(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    INPUT = "input_tokens"
    OUTPUT = "output_tokens"
    TOTAL = "total_tokens"
    UNCACHED_INPUT = "uncached_input_tokens"
    CONCURRENT = "concurrent"  # calls under way at the same time


# Those that a call takes an amount of, in the order in which they travel.
COUNTED: tuple[Unit, ...] = tuple(unit for unit in Unit if unit is not Unit.CONCURRENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """A call that asks to be let through.

    `call_id` makes grant and settlement idempotent. `waiter` is who waits, the same when it
    asks again later, so that it keeps its place. `credential_id` is None for the operator's key.
    `amounts` is the estimate, `budgets` names the flags of exhausted budgets to look at.
    """

    call_id: UUID
    waiter: str
    tenant_id: UUID
    weight: int
    project_id: UUID
    workflow_id: UUID
    agent: str
    provider: str
    model: str
    credential_id: UUID | None
    amounts: Mapping[Unit, int]
    hold_nano: int
    budgets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Whether a call may go, or which gate refuses it and when to ask again.

    `never` says that waiting does not help: it asks for more than the limit can ever grant.
    `budget` is the key of the flag if an exhausted budget refuses it.
    """

    granted: bool
    wait_seconds: float = 0.0
    gate: str = ""
    never: bool = False
    budget: str = ""
