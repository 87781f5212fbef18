"""The one door to a model: every call is priced, recorded before it is sent, and charged.

The order is what makes a crash harmless: a call is a row before it leaves, and answer, charge
and status are one transaction. A call whose worker died in between stays open until the sweeper
finds it in doubt. No database connection is held while the provider works.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import JsonValue
from uuid_utils.compat import uuid7

from agents_app.core.errors import ProviderError
from agents_app.core.model import FinishReason, ModelClient, ModelReply, ModelRequest
from agents_app.providers.transport import cut_short_when
from costs.core.pricing import Price, cost, estimate_tokens, worst_case
from costs.core.usage import Usage
from orchestrator.execution import engine_db
from orchestrator.execution.claims import Claim
from orchestrator.execution.crashpoints import crash_here
from orchestrator.execution.engine_db import Row
from orchestrator.execution.errors import LeaseLostError, RunStoppingError
from orchestrator.execution.leases import Lease
from orchestrator.execution.prices import price_for
from orchestrator.execution.providers import client_for_tenant

_OPEN = "SELECT * FROM muster_open_call(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
_END = "SELECT muster_end_call(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) AS ended"
_NO_USAGE = Usage(input_tokens=0, output_tokens=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A call that lies open in the database."""

    id: UUID
    price: Price
    hold_nano: int


class GuardedClient:
    """The model client of one attempt of one agent run.

    Turns count from 1 in the order of calls. A turn that was answered before, by an earlier
    attempt, is not asked again: its stored reply is returned.
    """

    def __init__(self, claim: Claim, lease: Lease, *, role: str) -> None:
        self._claim = claim
        self._lease = lease
        self._role = role
        self._turn = 0

    def complete(self, request: ModelRequest) -> ModelReply:
        """Answer from memory or from the provider.

        Raises ProviderError, UnknownPriceError, and LeaseLostError or RunStoppingError when the
        attempt has to end.
        """
        self._turn += 1
        remembered = self._claim.replies.get(str(self._turn))
        if remembered is not None:
            return _reply_from_json(remembered)
        client = client_for_tenant(
            request.provider, uses_environment=self._claim.environment_credentials
        )
        call = self._open(request)
        return call if isinstance(call, ModelReply) else self._send(client, request, call)

    def _open(self, request: ModelRequest) -> _Call | ModelReply:
        """Set the call down. The answer, if a worker that was given up has brought it in since."""
        price = price_for(self._claim.tenant_id, request.provider, request.model)
        call = _Call(id=uuid7(), price=price, hold_nano=_hold(request, price))
        if self._lease.stopping.is_set():
            raise RunStoppingError
        row = None if self._lease.lost.is_set() else self._record(request, call)
        match row and row["opened"]:
            case "opened":
                return call
            case "answered" if row:
                return _reply_from_json(row["reply"])
            case "stopping":
                raise RunStoppingError
        raise LeaseLostError(self._claim.step, self._claim.attempt)

    def _record(self, request: ModelRequest, call: _Call) -> Row | None:
        arguments = (
            self._claim.tenant_id,
            self._claim.agent_run_id,
            self._claim.attempt,
            call.id,
            self._turn,
            request.provider,
            request.model,
            self._role,
            Jsonb(_request_to_json(request)),
            call.hold_nano,
            Jsonb(_prices_to_json(call.price)),
        )
        return engine_db.persistently(
            lambda: engine_db.one(_OPEN, *arguments), give_up=self._lease.lost.is_set
        )

    def _send(self, client: ModelClient, request: ModelRequest, call: _Call) -> ModelReply:
        crash_here("before_send")
        try:
            with cut_short_when(lambda: self._lease.is_over):
                reply = client.complete(request)
        except ProviderError as error:
            self._end_without_answer(call, error)
            if self._lease.stopping.is_set():
                raise RunStoppingError from error
            raise
        except Exception:
            # A client that breaks tells nothing of what the provider has done.
            told = {"code": "internal_error", "message": "The provider's client broke."}
            self._end(call, status="in_doubt", charge=call.hold_nano, error=told)
            raise
        crash_here("after_answer")
        self._end(call, status="closed", charge=cost(reply.usage, call.price).nano, reply=reply)
        return reply

    def _end_without_answer(self, call: _Call, error: ProviderError) -> None:
        told = {"code": error.code, "kind": error.kind, "message": str(error)}
        if error.in_doubt:
            self._end(call, status="in_doubt", charge=call.hold_nano, error=told)
            return
        self._end(call, status="failed", charge=0, error=told)

    def _end(
        self,
        call: _Call,
        *,
        status: str,
        charge: int,
        reply: ModelReply | None = None,
        error: Mapping[str, JsonValue] | None = None,
    ) -> None:
        usage = reply.usage if reply else _NO_USAGE
        arguments = (
            self._claim.tenant_id,
            call.id,
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
        # What was paid must be on record: this is tried for as long as the process lives.
        engine_db.persistently(lambda: engine_db.one(_END, *arguments), give_up=lambda: False)


def _hold(request: ModelRequest, price: Price) -> int:
    """The worst case by estimate; what a call of unknown outcome is charged."""
    return worst_case(
        input_bound=estimate_tokens(request.prompt_text),
        max_output=request.max_output_tokens,
        price=price,
    )


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


def _reply_to_json(reply: ModelReply) -> dict[str, Any]:
    return asdict(replace(reply, limits={}))


def _reply_from_json(stored: Mapping[str, Any]) -> ModelReply:
    return ModelReply(
        **{
            **stored,
            "usage": Usage(**stored["usage"]),
            "finish_reason": FinishReason(stored["finish_reason"]),
        }
    )
