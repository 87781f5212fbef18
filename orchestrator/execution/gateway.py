"""The one door to a model: every call is priced, let through, held, recorded, sent, and charged.

The order is what makes a crash harmless: a call is a row, and its worst case is held in every
budget that applies, before it leaves; answer, charge and status are one transaction. A call
whose worker died in between stays open until the sweeper finds it in doubt. No database
connection is held while the provider works.
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from pydantic import JsonValue
from uuid_utils.compat import uuid7

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import ModelClient, ModelReply, ModelRequest
from agents_app.providers.hearing import Listener, heard_by
from agents_app.providers.transport import cut_short_when
from costs.core.pricing import Price, cost
from orchestrator.core.limits import CallFacts, Unit
from orchestrator.core.spec import ModelChoice
from orchestrator.core.speech import Said
from orchestrator.core.state import WaitingReason
from orchestrator.execution.answer_cache import AnswerCache, Asked, answer_key
from orchestrator.execution.batch_rows import failure_from_json, open_batched
from orchestrator.execution.call_limits import REFUSED, facts_of, flag_of, used_by
from orchestrator.execution.call_rows import (
    NewCall,
    Turn,
    end_call,
    open_call,
    reply_from_json,
)
from orchestrator.execution.claims import Claim
from orchestrator.execution.context_window import check_length
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
from orchestrator.execution.ladder import Ladder, with_model
from orchestrator.execution.leases import Lease
from orchestrator.execution.prices import batch_price_for, price_for
from orchestrator.execution.providers import TenantClient, client_for_tenant
from orchestrator.execution.worst import worst_of
from orchestrator.limits import Limits, limits

log = structlog.get_logger(__name__)

# A wait up to this long is slept through; a longer one gives the worker's thread back.
SHORT_WAIT_SECONDS = 2.0
# When a budget may have room again that calls under way have taken up.
_BUSY_SECONDS = 1.0
_GLANCE_SECONDS = 0.25
# What a provider that wants to be left alone for a while says; a rate limit is no failure.
_PAUSING = frozenset({ProviderErrorKind.RATE_LIMITED, ProviderErrorKind.OVERLOADED})


# Who hears a call of a run while its answer is being written; None: nobody.
Speaking = Callable[[UUID, UUID, Said], AbstractContextManager[Listener | None]]


def _silence(run_id: UUID, call_id: UUID, about: Said) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A call that was let through, and lies open in the database."""

    facts: CallFacts
    price: Price
    hold_nano: int

    @property
    def id(self) -> UUID:
        return self.facts.call_id


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
        fallback: Sequence[ModelChoice] = (),
        ladder: Ladder | None = None,
        is_last_try: bool = True,
        speaking: Speaking = _silence,
        cache: AnswerCache | None = None,
        batch_seconds: int | None = None,
    ) -> None:
        """`cap_nano` is what the agent run may cost in all, `max_wait` how long it may wait.

        The models of `fallback` are asked in turn once the one that is asked for is given up: by a
        limit, or by a failure that the step has no other attempt for (`is_last_try`). What `ladder`
        says comes before all of them, call by call. With `batch_seconds` calls go into batches,
        where the provider takes them, and it waits so long for each answer.
        """
        self._claim = claim
        self._lease = lease
        self._role = role
        self._cap_nano = cap_nano
        self._patience = _Patience(lease, waited=claim.waited, most=max_wait)
        self._limits = limits()
        self._fallback = fallback
        self._ladder = ladder
        self._eased: ModelChoice | None = None  # what the ladder has put in the model's place
        self._hop = 0  # how many models were given up; later turns do not ask them again
        self._is_last_try = is_last_try
        self._speaking = speaking
        self._cache = cache
        self._batch_seconds = batch_seconds
        self._turn = 0
        self._before: Turn | None = None  # the last that was answered

    def complete(self, request: ModelRequest) -> ModelReply:
        """Answer from memory or from the provider.

        Raises ProviderError, UnknownPriceError, RateLimitedError, BudgetExceededError and
        StepCapError; MustWaitError, LeaseLostError or RunStoppingError when the attempt has to end.
        """
        self._turn += 1
        reply = self._answer(request)
        self._before = Turn(number=self._turn, request=request)
        return reply

    def _answer(self, request: ModelRequest) -> ModelReply:
        remembered = self._claim.replies.get(str(self._turn))
        if remembered is not None:
            return _remembered(remembered, request)
        while True:
            asked = self._on_hop(self._on_rung(request))
            try:
                return self._ask(asked)
            except BudgetExceededError:
                # Others may have spent meanwhile what it needs, and left enough for a cheaper one.
                if self._on_hop(self._on_rung(request)) == asked:
                    raise
            except (ProviderError, RateLimitedError) as error:
                if self._hop >= len(self._fallback) or not self._gives_up(error):
                    raise
                self._hop += 1
                chosen = self._fallback[self._hop - 1]
                log.info(
                    "model_given_up",
                    reason=str(error),
                    provider=chosen.provider,
                    model=chosen.model,
                )

    def _on_rung(self, request: ModelRequest) -> ModelRequest:
        if self._ladder is None:
            return request
        choice = self._ladder.model_for(request, bound=self._bound)
        if choice != self._eased:
            # What was given up was another model; the chain begins behind this one.
            self._eased, self._hop = choice, 0
        return with_model(request, choice)

    def _on_hop(self, request: ModelRequest) -> ModelRequest:
        if not self._hop:
            return request
        return with_model(request, self._fallback[self._hop - 1])

    def _bound(self, request: ModelRequest) -> int:
        price = price_for(self._claim.tenant_id, request.provider, request.model)
        return worst_of(request, price).bound

    def _gives_up(self, error: ProviderError | RateLimitedError) -> bool:
        if isinstance(error, RateLimitedError) or error.kind is ProviderErrorKind.QUOTA_EXHAUSTED:
            return True
        return error.retryable and self._is_last_try

    def _ask(self, request: ModelRequest) -> ModelReply:
        calling = client_for_tenant(
            request.provider,
            tenant_id=self._claim.tenant_id,
            uses_environment=self._claim.environment_credentials,
        )
        if self._cache is None:
            return self._asked(calling, request)
        asked = Asked(
            turn=self._turn,
            request=request,
            before=self._before,
            credential_id=calling.credential_id,
            # Once for both looks: conversations may be long.
            key=answer_key(request, calling.credential_id),
        )
        found = self._cache.find(asked, give_up=self._lease.lost.is_set)
        if found is not None:
            return found
        reply = self._asked(calling, request)
        self._cache.keep(asked, reply)
        return reply

    def _asked(self, calling: TenantClient, request: ModelRequest) -> ModelReply:
        check_length(request, calling.client)
        in_batch = self._batch_seconds is not None and calling.takes_batches
        while True:
            reply = (self._try_in_batch if in_batch else self._try)(calling, request)
            if reply is not None:
                return reply

    def _try(self, calling: TenantClient, request: ModelRequest) -> ModelReply | None:
        """None if it is to be tried again, after a wait that was slept through."""
        call = self._open(request, calling.credential_id)
        if not isinstance(call, _Call):
            return call
        try:
            return self._send(calling.client, request, call)
        except ProviderError as error:
            pause = error.retry_after_seconds
            if error.kind not in _PAUSING or pause is None:
                raise
            self._limits.pause(call.facts, seconds=pause)
            if error.kind is not ProviderErrorKind.RATE_LIMITED:
                raise
            gate = f"{request.provider} {request.model} pause"
            self._patience.wait(WaitingReason.RATE_LIMITED, gate, pause)
            return None

    def _try_in_batch(self, calling: TenantClient, request: ModelRequest) -> ModelReply | None:
        """Put the call into a batch, which ends the attempt; the answer, if it has come by now.

        No limit is asked: they are for what is called at once, and providers count batches apart.
        """
        if self._lease.stopping.is_set():
            raise RunStoppingError
        size = calling.client.batches.size_of(request)
        price = batch_price_for(self._claim.tenant_id, request.provider, request.model)
        new = self._new_call(request, price, calling.credential_id)
        lost = self._lease.lost.is_set
        within = self._batch_seconds or 0
        row = None
        if not lost():
            row = open_batched(self._claim, new, within_seconds=within, size=size, give_up=lost)
        return self._not_opened(row)

    def _new_call(self, request: ModelRequest, price: Price, credential_id: UUID | None) -> NewCall:
        return NewCall(
            id=uuid7(),
            turn=self._turn,
            role=self._role,
            request=request,
            before=self._before,
            price=price,
            worst=worst_of(request, price),
            credential_id=credential_id,
            cap_nano=self._cap_nano,
        )

    def _open(
        self, request: ModelRequest, credential_id: UUID | None = None
    ) -> _Call | ModelReply | None:
        """Have the call let through, and set it down; None if it is to be tried again.

        The answer, if a worker that was given up has brought it in since.
        """
        if self._lease.stopping.is_set():
            raise RunStoppingError
        price = price_for(self._claim.tenant_id, request.provider, request.model)
        new = self._new_call(request, price, credential_id)
        facts = facts_of(
            self._claim,
            request,
            call_id=new.id,
            credential_id=new.credential_id,
            worst=new.worst,
        )
        if not self._is_admitted(facts):
            return None
        is_open = False
        try:
            opened = self._record(new, facts)
            is_open = isinstance(opened, _Call)
        finally:
            if not is_open:
                self._limits.release(new.id)
        return opened

    def _is_admitted(self, facts: CallFacts) -> bool:
        admission = self._limits.admit(facts)
        if admission.granted:
            return True
        if admission.never:
            raise RateLimitedError(admission.gate, "this call takes more than it ever lets through")
        if admission.budget:
            # Known to have been exhausted a moment ago; it may have been raised since.
            self._patience.wait(WaitingReason.BUDGET, "a budget that is exhausted", _BUSY_SECONDS)
        else:
            try:
                seconds = admission.wait_seconds
                self._patience.wait(WaitingReason.RATE_LIMITED, admission.gate, seconds)
            except RateLimitedError:
                self._limits.leave([facts.waiter])
                raise
        return False

    def _record(self, new: NewCall, facts: CallFacts) -> _Call | ModelReply | None:
        lost = self._lease.lost.is_set
        row = None if lost() else open_call(self._claim, new, give_up=lost)
        if row and row["opened"] == "opened":
            return _Call(facts=facts, price=new.price, hold_nano=row["hold"])
        # Nothing of the limits is kept from others while this one waits for something else.
        self._limits.release(new.id)
        return self._not_opened(row)

    def _not_opened(self, row: Mapping[str, Any] | None) -> ModelReply | None:
        match row and row["opened"]:
            case "answered" if row:
                return reply_from_json(row["reply"])
            case "stopping":
                raise RunStoppingError
            case "capped" if row:
                raise StepCapError(**row["refusal"])
            case "batched" if row:
                gate = f"a batch of {row['refusal']['provider']}"
                raise MustWaitError(WaitingReason.BATCH, gate, row["refusal"]["seconds"])
            case "failed" if row:
                raise self._failed_in_batch(row["refusal"])
            case "busy" | "exhausted" as verdict if row:
                self._refused(row["refusal"], is_for_good=verdict == "exhausted")
                return None
        raise LeaseLostError(self._claim.step, self._claim.attempt)

    def _failed_in_batch(self, told: Mapping[str, Any]) -> ProviderError:
        # It may have been asked in place of models that were given up before.
        chain = [(each.provider, each.model) for each in self._fallback]
        asked = (told["provider"], told["model"])
        if asked in chain:
            self._hop = chain.index(asked) + 1
        return failure_from_json(told["error"], told["provider"])

    def _refused(self, refusal: Mapping[str, Any], *, is_for_good: bool) -> None:
        """A budget has no room: wait for calls under way to give some back, or give up."""
        if not is_for_good:
            self._patience.wait(WaitingReason.BUDGET, budget_name(refusal), _BUSY_SECONDS)
            return
        left = refusal["limit_nano"] - refusal["spent_nano"]
        self._limits.flag_budget(flag_of(self._claim.tenant_id, refusal), left_nano=max(0, left))
        raise BudgetExceededError(refusal)

    def _send(self, client: ModelClient, request: ModelRequest, call: _Call) -> ModelReply:
        crash_here("before_send")
        end = _Ending(self._limits, call)
        with self._lease.calling(call.id), self._heard(call):
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

    @contextmanager
    def _heard(self, call: _Call) -> Iterator[None]:
        claim = self._claim
        about = Said(
            call_id=str(call.id),
            agent_run_id=str(claim.agent_run_id),
            step=claim.step,
            index=claim.item_index,
            attempt=claim.attempt,
            turn=self._turn,
        )
        with self._speaking(claim.run_id, call.id, about) as listener, heard_by(listener):
            yield


def _remembered(told: Mapping[str, Any], request: ModelRequest) -> ModelReply:
    """What an earlier attempt heard: an answer, or that it had asked for too much at once."""
    if told.get("is_too_long"):
        detail = "an earlier attempt was refused for this"
        raise ProviderError(ProviderErrorKind.CONTEXT_TOO_LONG, detail, request.provider)
    return reply_from_json(told)


@dataclass(frozen=True, slots=True)
class _Ending:
    """Records how a call has ended, and tells the limiter what it took."""

    limits: Limits
    call: _Call

    def answered(self, reply: ModelReply) -> None:
        charge = cost(reply.usage, self.call.price).nano
        self._end(used_by(reply.usage), status="closed", charge=charge, reply=reply)
        self.limits.observe(self.call.facts, reply.limits)

    def without_answer(self, error: ProviderError) -> None:
        told = {"code": error.code, "kind": error.kind, "message": str(error)}
        if error.in_doubt:
            self._in_doubt(told)
        else:
            self._end(REFUSED, status="failed", charge=0, error=told)

    def unknown(self) -> None:
        """A client that breaks tells nothing of what the provider has done."""
        self._in_doubt({"code": "internal_error", "message": "The provider's client broke."})

    def _in_doubt(self, told: Mapping[str, JsonValue]) -> None:
        used = self.call.facts.amounts
        self._end(used, status="in_doubt", charge=self.call.hold_nano, error=told)

    def _end(self, used: Mapping[Unit, int], **outcome: Any) -> None:
        end_call(self.call.facts.tenant_id, self.call.id, **outcome)
        self.limits.settle(self.call.id, used)


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
