"""Batches and the calls in them as they lie in the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from psycopg.types.json import Json, Jsonb

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import (
    Message,
    ModelReply,
    ModelRequest,
    Opaque,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from costs.core.pricing import Price, cost, price_from_json
from orchestrator.core.hints import RunHints, hints_of
from orchestrator.execution import engine_db
from orchestrator.execution.call_rows import (
    NewCall,
    ended_call_facts,
    new_call_facts,
    request_to_json,
)
from orchestrator.execution.claims import Claim
from orchestrator.execution.engine_db import Row

_OPEN: Final = "SELECT * FROM muster_open_batched(%s, %s, %s, %s, %s, %s, %s, %s)"
_TAKE: Final = "SELECT * FROM muster_take_batches(%s, %s)"
_NOTE: Final = "SELECT muster_note_batch(%s, %s, %s, %s) AS is_noted"
_CALLS: Final = "SELECT * FROM muster_batched_calls(%s, %s)"
_IS_WANTED: Final = "SELECT muster_batch_is_wanted(%s, %s) AS is_wanted"
_END: Final = "SELECT * FROM muster_end_batched(%s, %s)"
_OTHERS: Final = """
SELECT vendor_id FROM model_batch
 WHERE provider = %s AND id <> %s AND vendor_id <> '' AND submitted_at > now() - interval '3 days'
"""

# Answers come in one file, which has to fit into what is read of a provider at most.
MOST_BYTES: Final = 24_000_000
_BYTES_OF_A_TOKEN: Final = 16
_BYTES_OF_A_FRAME: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBatch:
    """A batch that is in hand, until its lease is over."""

    id: UUID
    tenant_id: UUID
    provider: str
    model: str
    credential_id: UUID | None
    status: str
    vendor_id: str
    lease_until: datetime
    sent_at: datetime | None
    tries: int
    is_cancelling: bool
    is_too_old: bool
    uses_environment: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchedCall:
    """A call that has not ended; `is_wanted`: its step waits for the answer."""

    id: UUID
    request: ModelRequest
    price: Price
    hold_nano: int
    is_wanted: bool


def open_batched(
    claim: Claim,
    call: NewCall,
    *,
    within_seconds: int,
    size: int,
    give_up: Callable[[], bool],
) -> Row | None:
    """Put a call into a batch; the row of `muster_open_batched`.

    None if the database was away until `give_up` said so.
    """
    longest = _BYTES_OF_A_TOKEN * call.request.max_output_tokens + _BYTES_OF_A_FRAME
    arguments = (
        claim.tenant_id,
        Jsonb(new_call_facts(claim, call)),
        Json(request_in_full(call.request)),
        size + longest,
        timedelta(seconds=within_seconds),
        settings.MUSTER_BATCH_REQUESTS,
        MOST_BYTES,
        timedelta(seconds=settings.MUSTER_BATCH_COLLECT_SECONDS),
    )
    return engine_db.persistently(lambda: engine_db.one(_OPEN, *arguments), give_up=give_up)


def taken_batches(*, most: int, lease: timedelta) -> list[TakenBatch]:
    """Batches of all tenants that something is to be done about."""
    rows = engine_db.many(_TAKE, most, lease, alias="system")
    return [TakenBatch(**row) for row in rows]


def note(batch: TakenBatch, **what: Any) -> bool:
    """Write what has come of a batch; False if it is in other hands by now."""
    row = engine_db.one(_NOTE, batch.tenant_id, batch.id, batch.lease_until, Jsonb(what))
    return bool(row and row["is_noted"])


def calls_of(batch: TakenBatch) -> list[BatchedCall]:
    return [
        BatchedCall(
            id=row["id"],
            request=request_from_json(row["request"]),
            price=price_from_json(row["prices"]),
            hold_nano=row["hold"],
            is_wanted=row["is_wanted"],
        )
        for row in engine_db.many(_CALLS, batch.tenant_id, batch.id)
    ]


def is_wanted(batch: TakenBatch) -> bool:
    """Whether anybody waits for any of its answers."""
    row = engine_db.one(_IS_WANTED, batch.tenant_id, batch.id)
    return bool(row and row["is_wanted"])


def others_known(batch: TakenBatch) -> frozenset[str]:
    """What the provider calls other batches of ours, whosever they are."""
    rows = engine_db.many(_OTHERS, batch.provider, batch.id, alias="system")
    return frozenset(row["vendor_id"] for row in rows)


def end_batched(
    batch: TakenBatch, call: BatchedCall, outcome: ModelReply | ProviderError
) -> list[RunHints]:
    """Charge a call for what has come of it, and have its step go on; what is to be published."""
    if isinstance(outcome, ModelReply):
        charge = cost(outcome.usage, call.price).nano
        facts = ended_call_facts(call.id, status="closed", charge=charge, reply=outcome)
    else:
        status, charge = ("in_doubt", call.hold_nano) if outcome.in_doubt else ("failed", 0)
        facts = ended_call_facts(call.id, status=status, charge=charge, error=_told(outcome))
    rows = engine_db.persistently(
        lambda: engine_db.many(_END, batch.tenant_id, Jsonb(facts)), give_up=lambda: False
    )
    return hints_of(batch.tenant_id, rows or [])


def failure_from_json(told: Mapping[str, Any], provider: str) -> ProviderError:
    """What a call in a batch has failed with."""
    kind = ProviderErrorKind(told["kind"])
    return ProviderError(kind, told.get("detail", ""), provider, told.get("status"))


def request_from_json(stored: Mapping[str, Any]) -> ModelRequest:
    return ModelRequest(
        provider=stored["provider"],
        model=stored["model"],
        messages=tuple(map(_message, stored["messages"])),
        system=stored["system"],
        parameters=stored["parameters"],
        max_output_tokens=stored["max_output_tokens"],
        output_schema=stored["output_schema"],
        tools=tuple(ToolSpec(**tool) for tool in stored.get("tools", ())),
        attempt=stored["attempt"],
    )


def request_in_full(request: ModelRequest) -> dict[str, Any]:
    """All that a provider is asked by."""
    schema = request.output_schema
    return {
        "provider": request.provider,
        "model": request.model,
        "output_schema": None if schema is None else dict(schema),
        "attempt": request.attempt,
        **request_to_json(request),
    }


def _message(stored: Mapping[str, Any]) -> Message:
    opaque = stored.get("opaque")
    return Message(
        role=stored["role"],
        content=stored["content"],
        tool_calls=tuple(ToolCall(**call) for call in stored.get("tool_calls", ())),
        tool_results=tuple(ToolResult(**result) for result in stored.get("tool_results", ())),
        opaque=Opaque(**opaque) if opaque else None,
    )


def _told(error: ProviderError) -> dict[str, Any]:
    return {
        "code": error.code,
        "kind": error.kind,
        "message": str(error),
        "detail": error.detail,
        "status": error.status,
    }
