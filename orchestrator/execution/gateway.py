"""The one door to a model: every call is priced, let through, held, recorded, sent, and charged.

The order is what makes a crash harmless: a call is a row, and its worst case is held in every
budget that applies, before it leaves; answer, charge and status are one transaction. A call
whose worker died in between stays open until the sweeper finds it in doubt. No database
connection is held while the provider works.
"""

import math
import threading
from dataclasses import dataclass
from uuid import UUID

from uuid_utils.compat import uuid7

from agents_app.core.errors import ProviderError
from agents_app.core.model import ModelClient, ModelReply, ModelRequest
from agents_app.providers.transport import cut_short_when
from costs.core.pricing import Price, cost, estimate_tokens, token_upper_bound, worst_case
from orchestrator.core.state import WaitingReason
from orchestrator.execution.call_rows import NewCall, Worst, end_call, open_call, reply_from_json
from orchestrator.execution.claims import Claim
from orchestrator.execution.crashpoints import crash_here
from orchestrator.execution.errors import (
    BudgetExceededError,
    LeaseLostError,
    MustWaitError,
    RateLimitedError,
    RunStoppingError,
    StepCapError,
    budget_name,
)
from orchestrator.execution.leases import Lease
from orchestrator.execution.prices import price_for
from orchestrator.execution.providers import client_for_tenant

# A wait up to this long is slept through; a longer one gives the worker's thread back.
SHORT_WAIT_SECONDS = 2.0
# When a budget may have room again that calls under way have taken up.
_BUSY_SECONDS = 1.0
_GLANCE_SECONDS = 0.25
# What chat formats and the frames around tools and schemas add to the text of a request.
_TOKENS_PER_MESSAGE = 16
_TOKENS_PER_REQUEST = 512


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

    def __init__(
        self,
        claim: Claim,
        lease: Lease,
        *,
        role: str,
        cap_nano: int | None = None,
        max_wait: float = math.inf,
    ) -> None:
        """`cap_nano` is what the agent run may cost in all, `max_wait` how long it may wait."""
        self._claim = claim
        self._lease = lease
        self._role = role
        self._cap_nano = cap_nano
        self._patience = _Patience(lease, waited=claim.waited, most=max_wait)
        self._turn = 0

    def complete(self, request: ModelRequest) -> ModelReply:
        """Answer from memory or from the provider.

        Raises ProviderError, UnknownPriceError, RateLimitedError, BudgetExceededError and
        StepCapError; MustWaitError, LeaseLostError or RunStoppingError when the attempt has to end.
        """
        self._turn += 1
        remembered = self._claim.replies.get(str(self._turn))
        if remembered is not None:
            return reply_from_json(remembered)
        client = client_for_tenant(
            request.provider, uses_environment=self._claim.environment_credentials
        )
        call = self._open(request)
        return call if isinstance(call, ModelReply) else self._send(client, request, call)

    def _open(self, request: ModelRequest) -> _Call | ModelReply:
        """Set the call down. The answer, if a worker that was given up has brought it in since."""
        price = price_for(self._claim.tenant_id, request.provider, request.model)
        worst = _worst(request, price)
        while True:
            opened = self._try_to_open(request, price, worst)
            if opened is not None:
                return opened

    def _try_to_open(
        self, request: ModelRequest, price: Price, worst: Worst
    ) -> _Call | ModelReply | None:
        """None if there is to be another try, after a wait."""
        if self._lease.stopping.is_set():
            raise RunStoppingError
        new = NewCall(
            id=uuid7(),
            turn=self._turn,
            role=self._role,
            request=request,
            price=price,
            worst=worst,
            credential_id=None,
            cap_nano=self._cap_nano,
        )
        lost = self._lease.lost.is_set
        row = None if lost() else open_call(self._claim, new, give_up=lost)
        match row and row["opened"]:
            case "opened" if row:
                return _Call(id=new.id, price=price, hold_nano=row["hold"])
            case "answered" if row:
                return reply_from_json(row["reply"])
            case "stopping":
                raise RunStoppingError
            case "busy" if row:
                gate = budget_name(row["refusal"])
                self._patience.wait(WaitingReason.BUDGET, gate, _BUSY_SECONDS)
                return None
            case "exhausted" if row:
                raise BudgetExceededError(row["refusal"])
            case "capped" if row:
                raise StepCapError(**row["refusal"])
        raise LeaseLostError(self._claim.step, self._claim.attempt)

    def _send(self, client: ModelClient, request: ModelRequest, call: _Call) -> ModelReply:
        crash_here("before_send")
        end = _Ending(self._claim.tenant_id, call)
        try:
            with cut_short_when(lambda: self._lease.is_over):
                reply = client.complete(request)
        except ProviderError as error:
            end.without_answer(error)
            if self._lease.stopping.is_set():
                raise RunStoppingError from error
            raise
        except Exception:
            end.unknown()
            raise
        crash_here("after_answer")
        end.answered(reply)
        return reply


@dataclass(frozen=True, slots=True)
class _Ending:
    """Records how a call has ended."""

    tenant_id: UUID
    call: _Call

    def answered(self, reply: ModelReply) -> None:
        charge = cost(reply.usage, self.call.price).nano
        end_call(self.tenant_id, self.call.id, status="closed", charge=charge, reply=reply)

    def without_answer(self, error: ProviderError) -> None:
        told = {"code": error.code, "kind": error.kind, "message": str(error)}
        status, charge = ("in_doubt", self.call.hold_nano) if error.in_doubt else ("failed", 0)
        end_call(self.tenant_id, self.call.id, status=status, charge=charge, error=told)

    def unknown(self) -> None:
        """A client that breaks tells nothing of what the provider has done."""
        told = {"code": "internal_error", "message": "The provider's client broke."}
        hold = self.call.hold_nano
        end_call(self.tenant_id, self.call.id, status="in_doubt", charge=hold, error=told)


class _Patience:
    """How long one attempt may wait at gates: a moment in place, longer without its worker."""

    def __init__(self, lease: Lease, *, waited: float, most: float) -> None:
        self._lease = lease
        self._waited = waited
        self._most = most
        self._in_place = SHORT_WAIT_SECONDS

    def wait(self, reason: WaitingReason, gate: str, seconds: float) -> None:
        """Return once it is time to try again, or raise what the attempt is to end with."""
        if self._waited + seconds > self._most:
            raise RateLimitedError(gate, f"it may wait for at most {self._most:.0f} s")
        if seconds > self._in_place:
            raise MustWaitError(reason, gate, seconds)
        self._in_place -= seconds
        self._waited += seconds
        while seconds > 0 and not self._lease.is_over:
            threading.Event().wait(min(seconds, _GLANCE_SECONDS))
            seconds -= _GLANCE_SECONDS


def _worst(request: ModelRequest, price: Price) -> Worst:
    text, most = request.prompt_text, request.max_output_tokens
    around = _TOKENS_PER_REQUEST + _TOKENS_PER_MESSAGE * len(request.messages)
    return Worst(
        estimate=worst_case(input_bound=estimate_tokens(text), max_output=most, price=price),
        bound=worst_case(
            input_bound=token_upper_bound(text) + around, max_output=most, price=price
        ),
    )
