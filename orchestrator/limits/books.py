"""What the rows know of calls, for when Redis has forgotten it."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from django.db import connection, transaction

from orchestrator.core.limits import COUNTED, CallFacts, Counting, Tier, Unit
from orchestrator.core.limits.levels import window_start
from orchestrator.limits.scopes import Subject

_USED = "SELECT * FROM muster_limits_used(%s, %s, %s, %s, %s, %s, %s, %s)"
_USED_BY_ALL = "SELECT * FROM muster_limits_used_by_all(%s, %s, %s, %s)"


class Books(Protocol):
    def open_calls(self) -> Iterable[CallFacts]:
        """Calls that are under way; their amounts do not matter."""

    def idle_us(self) -> int:
        """For how long no call can have been let through."""

    def used(self, subject: Subject, tiers: Sequence[Tier], raw: int) -> dict[str, float]:
        """What each tier has granted in the period that it counts now, by the tiers' keys."""


class Ledger:
    """The books of the platform: the engine's rows and the ledger."""

    def open_calls(self) -> list[CallFacts]:
        return [_facts(row) for row in _rows("SELECT * FROM muster_limits_open_calls()")]

    def idle_us(self) -> int:
        ((idle,),) = _rows("SELECT extract(epoch FROM muster_limits_idle())::float")
        return int(max(0.0, idle) * 1_000_000)

    def used(self, subject: Subject, tiers: Sequence[Tier], raw: int) -> dict[str, float]:
        found = {}
        for tier in tiers:
            since = datetime.fromtimestamp(_since_us(tier, raw) / 1_000_000, UTC)
            found[tier.key] = float(_amounts(subject, since)[tier.unit])
        return found


def _since_us(tier: Tier, raw: int) -> float:
    """A bucket can hold no more than what was taken while it would have filled up."""
    if tier.counting is Counting.BUCKET:
        return raw - tier.memory_us
    return window_start(tier, raw) or raw


def _amounts(subject: Subject, since: datetime) -> dict[Unit, int]:
    narrowed = [subject.provider, subject.model]
    if subject.tenant_id is None:
        (row,) = _rows(_USED_BY_ALL, since, subject.operators_key, *narrowed)
    else:
        whose = [subject.project_id, subject.workflow_id, subject.agent, subject.credential_id]
        (row,) = _rows(_USED, subject.tenant_id, since, *whose, *narrowed)
    return dict(zip(COUNTED, row, strict=True))


def _rows(query: str, *arguments: Any) -> list[tuple[Any, ...]]:
    # The function of a tenant's usage tells the database the tenant for its transaction.
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(query, arguments)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    if not connection.in_atomic_block:
        connection.close()
    return rows


def _facts(row: tuple[Any, ...]) -> CallFacts:
    call_id, tenant_id, project_id, workflow_id, agent, provider, model, credential_id = row
    return CallFacts(
        call_id=call_id,
        waiter="",
        tenant_id=tenant_id,
        weight=1,
        project_id=project_id,
        workflow_id=workflow_id,
        agent=agent,
        provider=provider,
        model=model,
        credential_id=credential_id,
        amounts={},
        hold_nano=0,
        budgets=(),
    )
