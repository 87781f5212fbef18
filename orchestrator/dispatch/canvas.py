"""The one place that publishes. Messages carry ids only, and are hints: see ARCHITECTURE.md."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from celery import chain, chord, group
from celery.canvas import Signature
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from orchestrator.celery import app
from orchestrator.dispatch.routing import agent_queue

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AgentHint:
    """Look at this agent run."""

    agent_run_id: UUID
    priority: int


def publish_level(tenant_id: UUID, run_id: UUID, hints: Sequence[AgentHint]) -> None:
    """A whole level as a chord whose body is `advance`; a level of one is a chain."""
    header = [_agent(tenant_id, run_id, hint) for hint in hints]
    body = _advance(tenant_id, run_id)
    with _hinting(run_id), app.batch():
        (chord(header, body) if len(header) > 1 else chain(header[0], body)).apply_async()


def publish_agents(tenant_id: UUID, run_id: UUID, hints: Sequence[AgentHint]) -> None:
    """Agent runs whose barrier is not a chord: of wide levels, and recovered ones."""
    with _hinting(run_id), app.batch():
        group(_agent(tenant_id, run_id, hint) for hint in hints).apply_async()


def publish_advance(tenant_id: UUID, run_id: UUID) -> None:
    with _hinting(run_id):
        _advance(tenant_id, run_id).apply_async()


@contextmanager
def _hinting(run_id: UUID) -> Iterator[None]:
    """A hint that cannot be sent is only late: the rows are written, the sweeper sends it again."""
    try:
        yield
    except (OperationalError, RedisError, OSError) as error:
        log.warning("hint_not_sent", run_id=str(run_id), error=type(error).__name__)


def _agent(tenant_id: UUID, run_id: UUID, hint: AgentHint) -> Signature:
    return _signature(
        "orchestrator.run_agent",
        (str(tenant_id), str(run_id), str(hint.agent_run_id)),
        run_id,
        queue=agent_queue(hint.priority),
    )


def _advance(tenant_id: UUID, run_id: UUID) -> Signature:
    return _signature("orchestrator.advance", (str(tenant_id), str(run_id)), run_id)


def _signature(name: str, arguments: tuple[str, ...], run_id: UUID, **options: Any) -> Signature:
    return app.signature(
        name, args=arguments, immutable=True, headers={"run_id": str(run_id)}, **options
    )
