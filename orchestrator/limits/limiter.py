"""The limiter as callers know it: asked before a call, told after it, and never in the way.

Asking fails closed: while Redis is away, or does not know what is under way, calls wait. What
is told afterwards never raises; what cannot be told runs out by itself.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from uuid import UUID, uuid4

import redis
import structlog
from django.db import Error as DatabaseError

from orchestrator.core.limits import Admission, CallFacts, Counting, LimitedScope, Unit
from orchestrator.core.limits.headers import remaining_quota
from orchestrator.core.limits.model import Ask, Status, Verdict
from orchestrator.limits.books import Books
from orchestrator.limits.local import LocalLimiter
from orchestrator.limits.scopes import Applied, forget
from orchestrator.limits.store import Store

log = structlog.get_logger(__name__)

UNREACHABLE: Final = "limiter unreachable"
RESTORING: Final = "limiter restoring"
EVICTING: Final = "limiter: Redis may evict keys, set maxmemory-policy noeviction"
_AWAY_WAIT: Final = 1.0
_RESTORING_WAIT: Final = 0.5
# So often a question is asked again because the epoch changed, or tiers had to be seeded.
_TRIES: Final = 5
FLAG_SECONDS: Final = 5


class Limits:
    """One for a process; safe for threads."""

    def __init__(
        self,
        store: Store,
        *,
        books: Books,
        limits_of: Callable[[CallFacts], Applied],
        local: LocalLimiter | None = None,
    ) -> None:
        self._store = store
        self._books = books
        self._limits_of = limits_of
        self._local = local
        self._restoring = threading.Lock()
        self._problem = ""

    @property
    def state(self) -> str:
        """Empty if all is well, else why calls wait, or that each process counts by itself."""
        if self._problem == UNREACHABLE and self._local:
            return "each process limits for itself while Redis is away"
        return self._problem

    def admit(self, call: CallFacts) -> Admission:
        """Let the call through, or say which gate refuses it and when to ask again.

        Asking twice with the same `call_id` takes one grant.
        """
        applied = self._limits_of(call)
        ask = _ask(call, applied)
        try:
            admission = self._admit(ask, applied)
        except (redis.RedisError, OSError) as error:
            self._note(UNREACHABLE, error)
            if self._local is None:
                return Admission(granted=False, wait_seconds=_AWAY_WAIT, gate=UNREACHABLE)
            return _admission(self._local.admit(ask), ask)
        return admission

    def settle(self, call_id: UUID, used: Mapping[Unit, int]) -> None:
        """Count what the call really took, and give its places back. Once, however often told."""
        if self._local and self._local.settle(str(call_id), used):
            return
        self._tell(self._store.settle, str(call_id), used)

    def release(self, call_id: UUID) -> None:
        """Give the grant back whole: the call was not made."""
        if self._local and self._local.release(str(call_id)):
            return
        self._tell(self._store.release, str(call_id))

    def leave(self, waiters: Sequence[str]) -> None:
        """They will not ask again: others need not wait for their turn."""
        if self._local:
            self._local.leave(waiters)
        self._tell(self._store.leave, waiters)

    def renew(self, call_ids: Sequence[UUID]) -> None:
        """Keep the places of all open calls of a process, in one round trip."""
        names = [str(call_id) for call_id in call_ids]
        if self._local:
            self._local.renew(names)
        self._tell(self._store.renew, names)

    def pause(self, call: CallFacts, *, seconds: float) -> None:
        """The provider wants to be left alone: nobody calls this model with this key meanwhile."""
        self._tell(self._store.pause, self._limits_of(call).target, seconds=seconds)

    def observe(self, call: CallFacts, headers: Mapping[str, str]) -> None:
        """Let no more through than the provider says is left."""
        quota = remaining_quota(headers)
        if not quota.left:
            return
        target = self._limits_of(call).target
        self._tell(self._store.lower, target, quota.left)
        # A limit on what is used up knows how fast it comes back; else all of it is awaited.
        limited = {tier.unit for tier in target.tiers}
        pauses = [s for unit, s in quota.exhausted.items() if unit not in limited and s > 0]
        if pauses:
            self._tell(self._store.pause, target, seconds=max(pauses))

    def flag_budget(self, key: str, *, left_nano: int, seconds: float = FLAG_SECONDS) -> None:
        """Refuse calls that hold more than what is left of a budget, for a short time."""
        self._tell(self._store.flag, key, left_nano, seconds=seconds)

    def clear_budget(self, key: str) -> None:
        self._tell(self._store.clear_flag, key)

    def _admit(self, ask: Ask, applied: Applied) -> Admission:
        for _ in range(_TRIES):
            if self._store.keys is None:
                refusal = self._reach_epoch()
                if refusal is not None:
                    return refusal
            verdict = self._store.admit(ask)
            if verdict.status is Status.UNSEEDED:
                self._seed(verdict, applied)
            elif verdict.status is Status.CLOCK:
                # The days were worked out with a clock that is more than a day wrong.
                forget()
                break
            elif verdict.status is Status.CLOSED:
                self._store.leave_epoch()
            else:
                self._note("", None)
                return _admission(verdict, ask)
        return Admission(granted=False, wait_seconds=_RESTORING_WAIT, gate=RESTORING)

    def _reach_epoch(self) -> Admission | None:
        """Find the epoch, or open one if it is this caller's turn; else why to wait."""
        if not self._restoring.acquire(blocking=False):
            return Admission(granted=False, wait_seconds=_RESTORING_WAIT, gate=RESTORING)
        try:
            if self._store.may_evict():
                self._note(EVICTING, None)
                return Admission(granted=False, wait_seconds=_AWAY_WAIT, gate=EVICTING)
            state = self._store.look_at_epoch()
            if state.is_ours_to_open and self._restore():
                return None
            wait = state.wait_us / 1_000_000 or _RESTORING_WAIT
        finally:
            self._restoring.release()
        if state.name:
            return None
        self._note(RESTORING, None)
        return Admission(granted=False, wait_seconds=wait, gate=RESTORING)

    def _restore(self) -> bool:
        """Put back the places of the calls under way, and open a new epoch."""
        epoch = uuid4().hex[:12]
        try:
            idle_us = self._books.idle_us()
            calls = list(self._books.open_calls())
            for call in calls:
                places = _places(self._limits_of(call).scopes)
                self._store.put_back(str(call.call_id), places, epoch=epoch)
        except DatabaseError as error:
            log.warning("limiter_not_restored", error=type(error).__name__)
            return False
        is_open = self._store.open(epoch, idle_us=idle_us)
        if is_open:
            log.info("limiter_restored", calls=len(calls))
        return is_open

    def _seed(self, verdict: Verdict, applied: Applied) -> None:
        raw = self._store.time()
        for at in sorted({scope for scope, _ in verdict.unseeded}):
            scope = applied.scopes[at]
            tiers = [scope.tiers[tier] for s, tier in verdict.unseeded if s == at]
            self._store.seed(scope, self._books.used(applied.subjects[at], tiers, raw))

    def _tell(self, work: Callable[..., object], *arguments: object, **options: object) -> None:
        """Do what must not get in anybody's way."""
        try:
            if self._store.keys is None:
                self._store.look_at_epoch()
            work(*arguments, **options)
        except (redis.RedisError, OSError) as error:
            self._note(UNREACHABLE, error)

    def _note(self, problem: str, error: Exception | None) -> None:
        if problem == self._problem:
            return
        self._problem = problem
        if not problem:
            log.info("limiter_back")
        elif problem == EVICTING:
            log.error("limiter_refuses", problem=problem)
        elif problem == UNREACHABLE:
            log.warning("limiter_away", error=type(error).__name__)


def _ask(call: CallFacts, applied: Applied) -> Ask:
    return Ask(
        call_id=str(call.call_id),
        waiter=call.waiter,
        tenant=str(call.tenant_id),
        weight=call.weight,
        amounts=call.amounts,
        scopes=applied.scopes,
        hold_nano=call.hold_nano,
        budgets=call.budgets,
    )


def _admission(verdict: Verdict, ask: Ask) -> Admission:
    if verdict.status is Status.GRANTED:
        return Admission(granted=True)
    wait = verdict.wait_us / 1_000_000
    if verdict.budget is not None:
        key = ask.budgets[verdict.budget]
        return Admission(granted=False, wait_seconds=wait, gate=f"budget {key}", budget=key)
    if verdict.scope is None:
        return Admission(granted=False, wait_seconds=_RESTORING_WAIT, gate=RESTORING)
    gate = ask.scopes[verdict.scope].gate(verdict.tier)
    is_never = verdict.status is Status.NEVER
    return Admission(granted=False, wait_seconds=wait, gate=gate, never=is_never)


def _places(scopes: Sequence[LimitedScope]) -> list[tuple[str, str]]:
    return [
        (scope.key, tier.key)
        for scope in scopes
        for tier in scope.tiers
        if tier.counting is Counting.CONCURRENT
    ]
