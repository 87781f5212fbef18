"""The one place that publishes. Messages carry ids only, and are hints: see ARCHITECTURE.md."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import structlog
from celery import chain, chord, group
from celery.canvas import Signature
from kombu.exceptions import BatchPublishError, OperationalError
from redis.exceptions import RedisError

from orchestrator.celery import app
from orchestrator.core.hints import AgentHint, RunHints
from orchestrator.dispatch.routing import agent_queue

log = structlog.get_logger(__name__)


def publish(hints: Iterable[RunHints]) -> None:
    """Everything in one pipeline.

    A level goes as a chord whose body is `advance` (a level of one as a chain), other agent runs
    as a group, one alone and `advance` as what they are.
    """
    runs = list(hints)
    if not runs:
        return
    with _hinting(*(run.run_id for run in runs)), app.batch():
        for run in runs:
            for canvas in _canvases(run):
                canvas.apply_async()


def publish_advance(tenant_id: UUID, run_id: UUID) -> None:
    publish_advances(tenant_id, [run_id])


def publish_advances(tenant_id: UUID, run_ids: Sequence[UUID]) -> None:
    publish(RunHints(tenant_id=tenant_id, run_id=run_id, advance=True) for run_id in run_ids)


def publish_sweep() -> None:
    """For what need not wait until the sweeper comes by itself."""
    with _hinting():
        app.signature("orchestrator.sweep", immutable=True).apply_async()


def _canvases(run: RunHints) -> Iterator[Signature]:
    advance = _signature("orchestrator.advance", (str(run.tenant_id), str(run.run_id)), run.run_id)
    if len(run.chord) == 1:
        yield chain(_agent(run, run.chord[0]), advance)
    elif run.chord:
        yield chord([_agent(run, hint) for hint in run.chord], advance)
    if len(run.agents) == 1:
        yield _agent(run, run.agents[0])
    elif run.agents:
        yield group(_agent(run, hint) for hint in run.agents)
    if run.advance:
        yield advance


@contextmanager
def _hinting(*run_ids: UUID) -> Iterator[None]:
    """A hint that cannot be sent is only late: the rows are written, the sweeper sends it again."""
    try:
        yield
    except (BatchPublishError, OperationalError, RedisError, OSError) as error:
        error_name = type(error).__name__
        for run_id in run_ids:
            log.warning("hint_not_sent", run_id=str(run_id), error=error_name)


def _agent(run: RunHints, hint: AgentHint) -> Signature:
    return _signature(
        "orchestrator.run_agent",
        (str(run.tenant_id), str(run.run_id), str(hint.agent_run_id)),
        run.run_id,
        queue=agent_queue(hint.priority),
    )


def _signature(name: str, arguments: tuple[str, ...], run_id: UUID, **options: Any) -> Signature:
    return app.signature(
        name, args=arguments, immutable=True, headers={"run_id": str(run_id)}, **options
    )
