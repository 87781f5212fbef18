"""Those who answer what steps ask: two at once, while the run is paused, or too late."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, Final
from uuid import UUID

from django.db import connections

from orchestrator.chaos.flows import Verdict
from orchestrator.chaos.traffic import Started, Traffic, persistently
from orchestrator.models import Approval
from orchestrator.services.approvals import ApprovalClosedError, decide
from tenants.principals import Principal
from tenants.scope import tenant_scope

_LOOK_SECONDS: Final = 0.2
# Long enough for a sweep, short enough to come before it now and then.
_LATE_SECONDS: Final = 0.2
_EVERY_PAUSED: Final = 3


@dataclass(slots=True)
class People:
    """`accepted` counts, for each approval, how many were told that their answer holds."""

    traffic: Traffic
    accepted: Counter[UUID] = field(default_factory=Counter)
    asked: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _work: list[Future[None]] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._look, name="people", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()
        for answering in self._work:
            answering.result()

    def _look(self) -> None:
        numbers = count()
        seen: set[UUID] = set()
        with ThreadPoolExecutor(max_workers=8, initializer=connections.close_all) as pool:
            while not self._over.wait(_LOOK_SECONDS):
                for approval in self._open():
                    found = self._run_of(approval)
                    if found is not None and approval.id not in seen:
                        seen.add(approval.id)
                        self._work.append(
                            pool.submit(self._answer, approval, *found, next(numbers))
                        )
        self.asked = len(seen)

    def _open(self) -> list[Approval]:
        found: Iterable[Approval] = persistently(
            lambda: list(Approval.objects.db_manager("system").filter(status="open"))
        )
        return list(found)

    def _run_of(self, approval: Approval) -> tuple[int, Started] | None:
        """None as long as whoever started the run has not been told of it."""
        runs = dict(self.traffic.runs)
        return next(((n, run) for n, run in runs.items() if run.id == approval.run_id), None)

    def _answer(self, approval: Approval, number: int, run: Started, turn: int) -> None:
        verdict: Verdict = next(v.verdict for v in run.flow.vertices if v.name == approval.step)
        if verdict == "expire":
            self._wait_until(approval.expires_at)
            self._decide_twice(run, approval.id, "approve")
            return
        is_paused = turn % _EVERY_PAUSED == 0 and self.traffic.act(number, "pause")
        self._decide_twice(run, approval.id, verdict)
        if is_paused:
            self.traffic.act(number, "resume")

    def _wait_until(self, moment: datetime | None) -> None:
        if moment is not None:
            left = (moment - datetime.now(moment.tzinfo)).total_seconds()
            self._over.wait(max(left, 0) + _LATE_SECONDS)

    def _decide_twice(self, run: Started, approval: UUID, decision: str) -> None:
        other = threading.Thread(target=self._decide, args=(run, approval, decision))
        other.start()
        self._decide(run, approval, decision)
        other.join()

    def _decide(self, run: Started, approval_id: UUID, decision: str) -> None:
        person: Any = Principal(
            tenant_id=run.tenant_id,
            scopes=frozenset(),
            actor_kind="person",
            actor_id=threading.current_thread().name,
            label="somebody",
        )

        def ask() -> bool:
            with tenant_scope(run.tenant_id):
                approval = Approval.objects.select_related("run").get(id=approval_id)
                try:
                    decide(approval, principal=person, decision=decision)
                except ApprovalClosedError:
                    return False
            return True

        try:
            is_accepted = persistently(ask)
        finally:
            connections.close_all()
        with self._guard:
            self.accepted[approval_id] += is_accepted
