"""People and programs that start runs and interfere with them, through the services."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from random import Random
from typing import Any, Final, TypeVar
from uuid import UUID

from django.db import InterfaceError, OperationalError, connections

from agents_app.services.agents import create_agent
from costs.models import Budget, PlatformPrice
from orchestrator.chaos.flows import MODEL, PROVIDER, Flow
from orchestrator.chaos.schedule import RUNS_OF_BATCH, Deed
from orchestrator.chaos.specs import spec_of
from orchestrator.chaos.teams import saved_agents
from orchestrator.models import RateLimit, Run, RunBatch, Workflow
from orchestrator.services import control
from orchestrator.services.batches import BatchStateError, Wanted, cancel_batch, start_batch
from orchestrator.services.runs import start_run
from orchestrator.services.workflows import publish_spec
from tenants.models import Project, Tenant
from tenants.scope import tenant_scope

T = TypeVar("T")
TENANTS: Final = ("acme", "globex")
_LIMITS: Final[tuple[dict[str, Any], ...]] = (
    {"unit": "requests", "period": "second", "limit": 1000},
    {"unit": "total_tokens", "period": "minute", "limit": 100_000_000},
    {"unit": "concurrent", "limit": 1000},
)
_AWAY: Final = (OperationalError, InterfaceError)
_PAUSE_SECONDS: Final = 0.2
_AWAY_SECONDS: Final = 60.0
_ACTIONS: Final[dict[str, Callable[[Run], None]]] = {
    "cancel": control.cancel_run,
    "pause": control.pause_run,
    "resume": control.resume_run,
    "retry": control.retry_run,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A run with what it is of. Its marker stands in every prompt."""

    id: UUID
    tenant_id: UUID
    marker: str
    flow: Flow


@dataclass(slots=True)
class Traffic:
    """`accepted` counts the deeds that a service has confirmed, by run and kind."""

    rng: Random
    flows: Sequence[Flow]
    runs: dict[int, Started] = field(default_factory=dict)
    accepted: Counter[tuple[int, str]] = field(default_factory=Counter)
    # Each by its first run: its tenant and itself.
    batches: dict[int, tuple[UUID, UUID]] = field(default_factory=dict)
    cancelled_batches: list[UUID] = field(default_factory=list)
    _tenants: list[Tenant] = field(default_factory=list, init=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False)

    def prepare(self) -> None:
        """Two tenants that have every workflow, a budget and limits."""
        PlatformPrice.objects.using("system").create(
            provider=PROVIDER,
            model=MODEL,
            valid_from=date(2020, 1, 1),
            input_usd=Decimal(1),
            output_usd=Decimal(2),
        )
        for slug in TENANTS:
            tenant = Tenant.objects.using("system").create(
                slug=slug, name=slug.title(), uses_environment_credentials=True
            )
            self._tenants.append(tenant)
            with tenant_scope(tenant.id):
                # Neither ever refuses, so runs end as without them.
                Budget.objects.create(
                    name="All", scope="tenant", interval="total", limit_nano=10**15
                )
                for generous in _LIMITS:
                    RateLimit.objects.create(scope="tenant", **generous)
                project = Project.objects.create(slug="main", name="Main")
                for fields in saved_agents():
                    create_agent(**fields)
                for flow in self.flows:
                    publish_spec(project=project, spec=spec_of(flow))

    def do(self, deed: Deed) -> None:
        if deed.what == "start":
            self.start(deed.run)
        elif deed.what == "batch":
            self.start_batch(deed.run)
        elif deed.what == "cancel_batch":
            self.cancel_batch(deed.run)
        elif deed.run in self.runs:
            self.act(deed.run, deed.what)

    def start(self, number: int) -> None:
        marker = f"r{number}"
        flow = self._flow(number)
        tenant = self._tenants[number // len(self.flows) % len(self._tenants)]
        priority = self.rng.choice((3, 5, 5, 8))

        def begin() -> UUID:
            with tenant_scope(tenant.id):
                # An answer that was lost on its way may have been a yes.
                known = Run.objects.filter(metadata__marker=marker).first()
                if known:
                    return known.id
                workflow = Workflow.objects.get(name=flow.name)
                return start_run(
                    workflow=workflow,
                    input={"marker": marker},
                    metadata={"marker": marker},
                    priority=priority,
                ).id

        run_id = persistently(begin)
        self.runs[number] = Started(id=run_id, tenant_id=tenant.id, marker=marker, flow=flow)

    def act(self, number: int, what: str) -> bool:
        """Whether the state of the run allowed it."""
        started = self.runs[number]

        def ask() -> bool:
            with tenant_scope(started.tenant_id):
                try:
                    _ACTIONS[what](Run.objects.get(id=started.id))
                except control.RunStateError:
                    return False
            return True

        is_accepted = persistently(ask)
        with self._guard:
            self.accepted[number, what] += is_accepted
        return is_accepted

    def start_batch(self, first: int) -> None:
        numbers = range(first, first + RUNS_OF_BATCH)
        tenant = self._tenants[first % len(self._tenants)]

        def begin() -> tuple[UUID, dict[str, UUID]]:
            with tenant_scope(tenant.id):
                known = RunBatch.objects.filter(name=f"b{first}").first()
                batch_id = known.id if known else self._new_batch(f"b{first}", numbers)
                runs = Run.objects.filter(batch=batch_id)
                return batch_id, {run.metadata["marker"]: run.id for run in runs}

        batch_id, ids = persistently(begin)
        self.batches[first] = (tenant.id, batch_id)
        for number in numbers:
            marker = f"r{number}"
            self.runs[number] = Started(
                id=ids[marker], tenant_id=tenant.id, marker=marker, flow=self._flow(number)
            )

    def _new_batch(self, name: str, numbers: Iterable[int]) -> UUID:
        wanted = [
            Wanted(
                place=place,
                workflow=Workflow.objects.get(name=self._flow(number).name),
                input={"marker": f"r{number}"},
                metadata={"marker": f"r{number}"},
            )
            for place, number in enumerate(numbers)
        ]
        return start_batch(wanted, name=name).id

    def cancel_batch(self, first: int) -> None:
        if first not in self.batches:
            return
        tenant_id, batch_id = self.batches[first]

        def ask() -> bool:
            with tenant_scope(tenant_id):
                try:
                    cancel_batch(RunBatch.objects.get(id=batch_id))
                except BatchStateError:
                    return False
            return True

        if persistently(ask):
            self.cancelled_batches.append(batch_id)

    def _flow(self, number: int) -> Flow:
        return self.flows[number % len(self.flows)]

    def called(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Started]:
        """The runs among these rows that steps of others have started."""
        leaf = self.flows[0]
        for row in rows:
            if row["parent_agent_run_id"]:
                yield Started(
                    id=row["id"],
                    tenant_id=row["tenant_id"],
                    marker=row["input"]["marker"],
                    flow=leaf.doomed() if row["input"]["failing"] else leaf,
                )

    def wait_for_all(self, *, seconds: float) -> list[Started]:
        """Those that have not ended by then. Paused ones are resumed."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not self._open():
                return []
            time.sleep(_PAUSE_SECONDS)
        return [self.runs[number] for number in self._open()]

    def _open(self) -> list[int]:
        statuses = persistently(
            lambda: dict(
                Run.objects.db_manager("system")
                .filter(finished_at=None)
                .values_list("id", "status")
            )
        )
        found = [number for number, run in self.runs.items() if run.id in statuses]
        for number in found:
            if statuses[self.runs[number].id] == "paused":
                self.act(number, "resume")
        return found


def persistently(work: Callable[[], T]) -> T:
    """Through restarts of the database, as a client that tries again."""
    until = time.monotonic() + _AWAY_SECONDS
    while True:
        try:
            return work()
        except _AWAY:
            if time.monotonic() > until:
                raise
            for connection in connections.all():
                connection.close()
            time.sleep(_PAUSE_SECONDS)
