"""Maps: the list that one goes over, and what its items give together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agents_app.core.values import json_size
from orchestrator.core.errors import MapError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.plan import PlannedStep
from orchestrator.core.schema import type_name
from orchestrator.core.spec import MapSpec
from orchestrator.core.state import AgentRunStatus
from orchestrator.core.template import Context, render

MAX_ITEMS: Final = 10_000
MAX_OUTPUT_BYTES: Final = 10_000_000
# Runs and loops at once, where the map does not say: each is more than one agent at work.
WHOLES_AT_ONCE: Final = 100


def items_of(spec: MapSpec, context: Context) -> list[Json]:
    """The list, rendered. Raises MapError for what is no list or too long, and TemplateError."""
    given = render(spec.over, context)
    if not isinstance(given, list):
        raise MapError(
            f"`{spec.over}` gives a value of type {type_name(given)} where a map needs a list"
        )
    most = min(spec.max_items or MAX_ITEMS, MAX_ITEMS)
    if len(given) > most:
        raise MapError(f"`{spec.over}` gives {len(given):,} items; at most {most:,} are allowed")
    return given


def most_at_once(step: PlannedStep, *, window: int) -> int:
    """How many items of a map may be at work."""
    untold = window if step.kind == "agent" else WHOLES_AT_ONCE
    asked = step.map.parallel if step.map else None
    return min(asked or untold, window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    status: AgentRunStatus
    output: Json
    reason: str = ""


def gathered(spec: MapSpec, items: Sequence[Item]) -> list[Json]:
    """Outputs in the order of the items, null for those that failed or were skipped.

    Raises MapError when more of them failed than `allow_failed` accepts.
    """
    accepted = {AgentRunStatus.COMPLETED, AgentRunStatus.SKIPPED}
    failed = [(index, item) for index, item in enumerate(items) if item.status not in accepted]
    if len(failed) > spec.allow_failed * len(items):
        index, first = failed[0]
        why = f": {first.reason}" if first.reason else ""
        raise MapError(
            f"{len(failed)} of {len(items)} items failed, more than `allow_failed` accepts; "
            f"item {index} {first.status.replace('_', ' ')}{why}"
        )
    outputs = [item.output if item.status is AgentRunStatus.COMPLETED else None for item in items]
    if json_size(outputs) > MAX_OUTPUT_BYTES:
        raise MapError(
            f"The items' outputs pass {MAX_OUTPUT_BYTES:,} bytes together; let them say less"
        )
    return outputs
