"""Celery's entry points. Each takes ids, does nothing twice, and never raises for a run's sake."""

from typing import Any
from uuid import UUID

from celery import Task, shared_task
from celery.signals import setup_logging, worker_init, worker_ready, worker_shutting_down
from django.core.exceptions import ImproperlyConfigured

from orchestrator.services import advance as advancing
from orchestrator.services import agent_runs
from orchestrator.services import sweep as sweeping
from tenants.checks import refuse_unsafe_start

_sweeper = sweeping.Sweeper()


# An exception would break the chord that only counts that its tasks are done.
@shared_task(bind=True, name="orchestrator.run_agent")
def run_agent(self: Task, tenant_id: str, run_id: str, agent_run_id: str) -> None:
    agent_runs.execute(UUID(tenant_id), UUID(agent_run_id), worker=self.request.hostname)


@shared_task(name="orchestrator.advance")
def advance(tenant_id: str, run_id: str) -> None:
    advancing.advance(UUID(tenant_id), UUID(run_id))


@shared_task(name="orchestrator.sweep")
def sweep() -> None:
    sweeping.sweep()


@worker_init.connect
def check_roles(**_: Any) -> None:
    _exit_if_unsafe("default")


@worker_ready.connect
def start_sweeper(sender: Any, **_: Any) -> None:
    """Workers that drain the control queue also sweep."""
    if "control" in sender.app.amqp.queues.consume_from:
        _exit_if_unsafe("system")
        _sweeper.start()


@worker_shutting_down.connect
def stop_sweeper(**_: Any) -> None:
    _sweeper.stop()


@setup_logging.connect
def keep_logging(**_: Any) -> None:
    """Django has set up logging; with a receiver here Celery leaves it alone."""


def _exit_if_unsafe(alias: str) -> None:
    try:
        refuse_unsafe_start(alias)
    except ImproperlyConfigured as error:
        # Celery logs and forgets any other exception of a signal's receiver.
        raise SystemExit(str(error)) from None
