"""The limiter of one process, for as long as Redis is away and the operator wants it so."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.core.limits import Unit
from orchestrator.core.limits.model import Ask, LimiterModel, Status, Verdict


class LocalLimiter:
    """The model, safe for threads. It knows of no other process, and of no earlier call."""

    def __init__(self, *, lease_us: int) -> None:
        self._model = LimiterModel(lease_us=lease_us)
        self._guard = threading.Lock()
        # Calendar days need the time of day; it is taken once, so that it never steps.
        self._ahead_us = time.time_ns() // 1000 - time.monotonic_ns() // 1000
        self._is_open = False

    def admit(self, ask: Ask) -> Verdict:
        with self._guard:
            if not self._is_open:
                self._model.open(self._now())
                self._is_open = True
            verdict = self._model.admit(ask, self._now())
            if verdict.status is Status.UNSEEDED:
                for scope, tier in verdict.unseeded:
                    one = ask.scopes[scope]
                    self._model.seed(one, one.tiers[tier], 0.0, self._now())
                verdict = self._model.admit(ask, self._now())
            if verdict.status is Status.CLOCK:
                return replace(verdict, status=Status.DENIED)
            return verdict

    def settle(self, call_id: str, used: Mapping[Unit, int]) -> bool:
        with self._guard:
            return self._model.settle(call_id, used, self._now())

    def release(self, call_id: str) -> bool:
        with self._guard:
            return self._model.release(call_id, self._now())

    def leave(self, waiters: Sequence[str]) -> None:
        with self._guard:
            self._model.leave(waiters, self._now())

    def renew(self, call_ids: Sequence[str]) -> None:
        with self._guard:
            self._model.renew(call_ids, self._now())

    def _now(self) -> int:
        return time.monotonic_ns() // 1000 + self._ahead_us
