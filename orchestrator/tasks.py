"""Celery's entry points. Each takes ids, does nothing twice, and never raises for a run's sake."""

import inspect
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any
from uuid import UUID

import structlog
from celery import Task, shared_task
from celery.signals import setup_logging, worker_init, worker_ready, worker_shutting_down
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from agents_app.services import mcp_servers
from orchestrator.celery import app
from orchestrator.dispatch.routing import AGENT_QUEUES
from orchestrator.execution import presence
from orchestrator.services import advance as advancing
from orchestrator.services import (
    agent_runs,
    alerts,
    fair_shares,
    ledger_checks,
    model_batches,
    retention,
    velocity,
)
from orchestrator.services import sweep as sweeping
from orchestrator.services.desk import Intake
from orchestrator.services.leaving import Leaving
from orchestrator.services.periodic import Periodic
from tenants.checks import refuse_unsafe_start

log = structlog.get_logger(__name__)
_periodic: list[Periodic] = []
app.steps["worker"].add(Leaving)
app.steps["consumer"].add(Intake)


class IdTask(Task):
    """Takes nothing but ids. Others may put messages into the queues by its name."""

    Strategy = "orchestrator.dispatch.strategy:careful"

    def __call__(self, *given: Any, **named: Any) -> Any:
        if named or len(given) != self.ids or not all(map(_is_id, given)):
            log.warning("message_refused", task=self.name, reason="its arguments are no ids")
            return None
        return self.run(*given)

    @cached_property
    def ids(self) -> int:
        return len(inspect.signature(self.run).parameters)


# An exception would break the chord that only counts that its tasks are done.
@shared_task(bind=True, base=IdTask, name="orchestrator.run_agent")
def run_agent(self: Task, tenant_id: str, run_id: str, agent_run_id: str) -> None:
    agent_runs.execute(UUID(tenant_id), UUID(agent_run_id), worker=self.request.hostname)
    presence.count_message()


@shared_task(base=IdTask, name="orchestrator.advance")
def advance(tenant_id: str, run_id: str) -> None:
    advancing.advance(UUID(tenant_id), UUID(run_id))


@shared_task(base=IdTask, name="orchestrator.sweep")
def sweep() -> None:
    sweeping.sweep()


@worker_init.connect
def check_roles(**_: Any) -> None:
    _exit_if_unsafe("default")


@worker_ready.connect
def start_periodic(sender: Any, **_: Any) -> None:
    """Workers that drain the control queue also sweep and deal; others say that they are there."""
    queues = set(sender.app.amqp.queues.consume_from)
    if "control" in queues:
        _exit_if_unsafe("system")
        sweeper = sweeping.Sweeper()
        _repeat(sweeper.sweep, name="sweeper", seconds=settings.MUSTER_SWEEP_SECONDS)
        _repeat(sweeper.wake, name="waker", seconds=sweeping.WAKE_SECONDS)
        _repeat(fair_shares.Dealer().deal, name="dealer", seconds=fair_shares.SECONDS)
        _repeat(alerts.Watcher().watch, name="alerts", seconds=alerts.SECONDS)
        _repeat(ledger_checks.nightly, name="ledger_check", seconds=ledger_checks.SECONDS)
        _repeat(retention.forget, name="retention", seconds=retention.SECONDS)
        _repeat(velocity.Guard().watch, name="spend_guard", seconds=velocity.SECONDS)
        _repeat(model_batches.tend, name="model_batches", seconds=model_batches.SECONDS)
        _repeat(mcp_servers.ask_stale, name="mcp_listings", seconds=mcp_servers.SECONDS)
    if queues & AGENT_QUEUES:
        here = partial(presence.here, sender.hostname, slots=sender.controller.concurrency)
        _repeat(here, name="presence", seconds=presence.SECONDS)


def _repeat(work: Callable[[], object], *, name: str, seconds: float) -> None:
    _periodic.append(Periodic(work, name=name, seconds=seconds))
    _periodic[-1].start()


@worker_shutting_down.connect
def stop_periodic(**_: Any) -> None:
    for work in _periodic:
        work.stop()


@setup_logging.connect
def keep_logging(**_: Any) -> None:
    """Django has set up logging; with a receiver here Celery leaves it alone."""


def _is_id(given: Any) -> bool:
    try:
        UUID(given)
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def _exit_if_unsafe(alias: str) -> None:
    try:
        refuse_unsafe_start(alias)
    except ImproperlyConfigured as error:
        # Celery logs and forgets any other exception of a signal's receiver.
        raise SystemExit(str(error)) from None
