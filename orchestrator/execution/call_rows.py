"""A model call as it lies in the database: opened with its hold, ended with what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import JsonValue

from agents_app.core.model import (
    FinishReason,
    Message,
    ModelReply,
    ModelRequest,
    Opaque,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from costs.core.pricing import Price
from costs.core.usage import Usage
from orchestrator.execution import engine_db
from orchestrator.execution.claims import MOST, Claim
from orchestrator.execution.coalescing import Coalescer
from orchestrator.execution.engine_db import Row

_OPEN = "SELECT * FROM muster_open_calls(%s, %s)"
_END = "SELECT * FROM muster_end_calls(%s, %s)"
_CORRECT = "SELECT muster_correct_call(%s, %s) AS corrected"
_NO_USAGE = Usage(input_tokens=0, output_tokens=0)


# Whose a call is, and what is told of it, as the SQL functions name it.
_OfTenant = tuple[UUID, Mapping[str, Any]]


def _tenant_of(call: _OfTenant) -> UUID:
    return call[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """The most that a call may cost in nano-USD, by a fair guess of its input, and for certain.

    Hard budgets hold the `bound`, so that no answer costs more than was held; where there is none
    the `estimate` does. `input_tokens` is the guess.
    """

    input_tokens: int
    estimate: int
    bound: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A turn of an agent run whose request has a row already."""

    number: int
    request: ModelRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    id: UUID
    turn: int
    role: str
    request: ModelRequest
    before: Turn | None
    price: Price
    worst: Worst
    credential_id: UUID | None
    cap_nano: int | None  # what the step may still cost by its own limit
    tool_call: UUID | None = None  # the name of the tool call that it is made for


def open_call(claim: Claim, call: NewCall, *, give_up: Callable[[], bool]) -> Row | None:
    """Set the call down and hold its worst case; its row of `muster_open_calls`.

    None if the database was away until `give_up` said so.
    """
    told = (claim.tenant_id, new_call_facts(claim, call))
    # Tools of one step may ask at once: each has to see what the others hold of the step's cap,
    # which one statement for all of them would not show.
    opened = _opens if call.tool_call is None else _open_alone
    return engine_db.persistently(lambda: opened(told), give_up=give_up)


def new_call_facts(claim: Claim, call: NewCall) -> dict[str, Any]:
    """A call as `muster_open_calls` is told of it."""
    return {
        "agent_run": str(claim.agent_run_id),
        "attempt": claim.attempt,
        "call": str(call.id),
        "turn": call.turn,
        "provider": call.request.provider,
        "model": call.request.model,
        "role": call.role,
        "credential": call.credential_id and str(call.credential_id),
        "request": request_to_json(call.request, before=call.before),
        "prices": prices_to_json(call.price),
        "estimate": call.worst.estimate,
        "bound": call.worst.bound,
        "cap": call.cap_nano,
        "project": str(claim.project_id),
        "workflow": str(claim.workflow_id),
        "runs": "{" + ",".join(map(str, claim.cap_runs)) + "}",
        "agent": claim.agent,
        "tool_call": call.tool_call and str(call.tool_call),
    }


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
    facts = ended_call_facts(call_id, status=status, charge=charge, reply=reply, error=error)
    engine_db.persistently(lambda: _ends((tenant_id, facts)), give_up=lambda: False)


def ended_call_facts(
    call_id: UUID,
    *,
    status: str,
    charge: int,
    reply: ModelReply | None = None,
    error: Mapping[str, JsonValue] | None = None,
) -> dict[str, Any]:
    """A call as `muster_end_calls` is told of its end."""
    usage = reply.usage if reply else _NO_USAGE
    return {
        "call": str(call_id),
        "status": status,
        "cost": charge,
        "reply": reply_to_json(reply) if reply else None,
        "error": error,
        "model": reply.model if reply else "",
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cached": usage.cached_tokens,
        "cache_write": usage.cache_write_tokens,
        "reasoning": usage.reasoning_tokens,
        "estimated": usage.estimated,
    }


def _open_all(calls: Sequence[_OfTenant]) -> list[Row]:
    return engine_db.many(_OPEN, *_together(calls))


def _open_alone(call: _OfTenant) -> Row:
    (row,) = _open_all([call])
    return row


def _end_all(calls: Sequence[_OfTenant]) -> list[bool]:
    """Whether each was ended, or corrected, now. Corrections lock runs, so they go one by one."""
    rows = engine_db.many(_END, *_together(calls))
    return [row["ended"] or _correct(*call) for call, row in zip(calls, rows, strict=True)]


def _correct(tenant_id: UUID, facts: Mapping[str, Any]) -> bool:
    row = engine_db.one(_CORRECT, tenant_id, Jsonb(facts))
    return bool(row and row["corrected"])


def _together(calls: Sequence[_OfTenant]) -> tuple[UUID, Jsonb]:
    return calls[0][0], Jsonb([facts for _, facts in calls])


# Calls of one tenant, of several threads of a worker, share a round trip and a commit, and wait
# once for the budgets that they have in common.
_opens = Coalescer(_open_all, key=_tenant_of, most=MOST, concerns_all=engine_db.is_away)
_ends = Coalescer(_end_all, key=_tenant_of, most=MOST, concerns_all=engine_db.is_away)


def reply_from_json(stored: Mapping[str, Any]) -> ModelReply:
    opaque = stored.get("opaque")
    return ModelReply(
        **{
            **stored,
            "usage": Usage(**stored["usage"]),
            "finish_reason": FinishReason(stored["finish_reason"]),
            "tool_calls": tuple(ToolCall(**call) for call in stored.get("tool_calls", ())),
            "opaque": Opaque(**opaque) if opaque else None,
        }
    )


def reply_to_json(reply: ModelReply) -> dict[str, Any]:
    return {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "usage": asdict(reply.usage),
        "provider": reply.provider,
        "model": reply.model,
        "request_id": reply.request_id,
        "latency_ms": reply.latency_ms,
        **_without_empty(
            tool_calls=[_fields(call) for call in reply.tool_calls],
            opaque=reply.opaque and _fields(reply.opaque),
        ),
    }


def request_to_json(request: ModelRequest, *, before: Turn | None = None) -> dict[str, Any]:
    """The request, without what stands in that of a turn before.

    Conversations grow by a turn at a time: kept whole, their rows would grow by the square. So
    `follows` says how many messages of which turn come first, and a system text or tools that are
    the same are left out.
    """
    same = before.request if before else None
    known = same.messages if same else ()
    if before is None or same is None or request.messages[: len(known)] != known:
        tools = _without_empty(tools=_tools(request))
        return {"system": request.system, **_conversation(request.messages, request), **tools}
    return {
        "follows": {"turn": before.number, "messages": len(known)},
        **({} if request.system == same.system else {"system": request.system}),
        **_conversation(request.messages[len(known) :], request),
        **({} if request.tools == same.tools else {"tools": _tools(request)}),
    }


def _conversation(messages: Sequence[Message], request: ModelRequest) -> dict[str, Any]:
    return {
        "messages": [_message_to_json(message) for message in messages],
        "parameters": dict(request.parameters),
        "max_output_tokens": request.max_output_tokens,
    }


def _tools(request: ModelRequest) -> list[dict[str, Any]]:
    return [_fields(tool) for tool in request.tools]


def _message_to_json(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "content": message.content,
        **_without_empty(
            tool_calls=[_fields(call) for call in message.tool_calls],
            tool_results=[_fields(result) for result in message.tool_results],
            opaque=message.opaque and _fields(message.opaque),
        ),
    }


def _fields(part: ToolSpec | ToolCall | ToolResult | Opaque) -> dict[str, Any]:
    """Shallow, since `asdict` would copy JSON, which can be large and deep."""
    return {each.name: getattr(part, each.name) for each in fields(part)}


def _without_empty(**parts: object) -> dict[str, object]:
    """Most calls have to do with no tools, and millions of rows should not say so."""
    return {name: part for name, part in parts.items() if part}


def prices_to_json(price: Price) -> dict[str, Any]:
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
