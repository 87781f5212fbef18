"""A model call as it lies in the database: opened with its hold, ended with what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import JsonValue

from agents_app.core.model import FinishReason, ModelReply, ModelRequest
from costs.core.pricing import Price
from costs.core.usage import Usage
from orchestrator.execution import engine_db
from orchestrator.execution.claims import MOST, Claim
from orchestrator.execution.coalescing import Coalescer
from orchestrator.execution.engine_db import Row

_OPEN = """
SELECT * FROM muster_open_calls(
    %s, %s::uuid[], %s::int[], %s::uuid[], %s::int[], %s::text[], %s::text[], %s::text[],
    %s::uuid[], %s::jsonb[], %s::jsonb[], %s::bigint[], %s::bigint[], %s::bigint[], %s::uuid[],
    %s::uuid[], %s::text[], %s::text[])
"""
_END = """
SELECT * FROM muster_end_calls(
    %s, %s::uuid[], %s::text[], %s::bigint[], %s::jsonb[], %s::jsonb[], %s::text[], %s::bigint[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bool[])
"""
_CORRECT = "SELECT muster_correct_call(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) AS corrected"
_NO_USAGE = Usage(input_tokens=0, output_tokens=0)


# A call's facts in the order of the columns, and whose it is.
_OfTenant = tuple[UUID, tuple[Any, ...]]


def _tenant_of(call: _OfTenant) -> UUID:
    return call[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """The most that a call may cost in nano-USD, by a fair guess of its input, and for certain.

    Hard budgets hold the `bound`, so that no answer costs more than was held; where there is none
    the `estimate` does.
    """

    estimate: int
    bound: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    id: UUID
    turn: int
    role: str
    request: ModelRequest
    price: Price
    worst: Worst
    credential_id: UUID | None
    cap_nano: int | None  # what the step may still cost by its own limit


def open_call(claim: Claim, call: NewCall, *, give_up: Callable[[], bool]) -> Row | None:
    """Set the call down and hold its worst case; its row of `muster_open_calls`.

    None if the database was away until `give_up` said so.
    """
    facts = (
        claim.agent_run_id,
        claim.attempt,
        call.id,
        call.turn,
        call.request.provider,
        call.request.model,
        call.role,
        call.credential_id,
        Jsonb(_request_to_json(call.request)),
        Jsonb(_prices_to_json(call.price)),
        call.worst.estimate,
        call.worst.bound,
        call.cap_nano,
        claim.project_id,
        claim.workflow_id,
        "{" + ",".join(map(str, claim.cap_runs)) + "}",
        claim.agent,
    )
    return engine_db.persistently(lambda: _opens((claim.tenant_id, facts)), give_up=give_up)


def end_call(
    tenant_id: UUID,
    call_id: UUID,
    *,
    status: str,
    charge: int,
    reply: ModelReply | None = None,
    error: Mapping[str, JsonValue] | None = None,
) -> None:
    """Record how a call ended, and what it costs: tried for as long as the process lives."""
    usage = reply.usage if reply else _NO_USAGE
    facts = (
        call_id,
        status,
        charge,
        Jsonb(_reply_to_json(reply)) if reply else None,
        Jsonb(error) if error else None,
        reply.model if reply else "",
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        usage.estimated,
    )
    engine_db.persistently(lambda: _ends((tenant_id, facts)), give_up=lambda: False)


def _open_all(calls: Sequence[_OfTenant]) -> list[Row]:
    return engine_db.many(_OPEN, calls[0][0], *_columns(calls))


def _end_all(calls: Sequence[_OfTenant]) -> list[bool]:
    """Whether each was ended, or corrected, now. Corrections lock runs, so they go one by one."""
    rows = engine_db.many(_END, calls[0][0], *_columns(calls))
    return [row["ended"] or _correct(call) for call, row in zip(calls, rows, strict=True)]


def _correct(call: _OfTenant) -> bool:
    row = engine_db.one(_CORRECT, call[0], *call[1])
    return bool(row and row["corrected"])


def _columns(calls: Sequence[_OfTenant]) -> list[list[Any]]:
    return [list(column) for column in zip(*(facts for _, facts in calls), strict=True)]


# Calls of one tenant, of several threads of a worker, share a round trip and a commit, and wait
# once for the budgets that they have in common.
_opens = Coalescer(_open_all, key=_tenant_of, most=MOST, concerns_all=engine_db.is_away)
_ends = Coalescer(_end_all, key=_tenant_of, most=MOST, concerns_all=engine_db.is_away)


def reply_from_json(stored: Mapping[str, Any]) -> ModelReply:
    return ModelReply(
        **{
            **stored,
            "usage": Usage(**stored["usage"]),
            "finish_reason": FinishReason(stored["finish_reason"]),
        }
    )


def _reply_to_json(reply: ModelReply) -> dict[str, Any]:
    return asdict(replace(reply, limits={}))


def _request_to_json(request: ModelRequest) -> dict[str, Any]:
    return {
        "system": request.system,
        "messages": [asdict(message) for message in request.messages],
        "parameters": dict(request.parameters),
        "max_output_tokens": request.max_output_tokens,
    }


def _prices_to_json(price: Price) -> dict[str, Any]:
    def text(amount: Decimal | None) -> str | None:
        return None if amount is None else f"{amount:f}"

    return {
        "input": text(price.input),
        "output": text(price.output),
        "cached": text(price.cached),
        "cache_write": text(price.cache_write),
        "cache_write_1h": text(price.cache_write_1h),
        "per_request": text(price.per_request),
        "source": price.source,
        "tiers": [
            {
                name: text(amount) if isinstance(amount, Decimal) else amount
                for name, amount in rates
            }
            for rates in (asdict(tier).items() for tier in price.tiers)
        ],
    }
