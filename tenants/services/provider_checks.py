"""Taking turns in asking providers whether they work, and keeping what they said."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from tenants.kernel.clock import now
from tenants.models import Credential, ProviderCheck
from tenants.scope import current_tenant_id
from tenants.services.errors import CheckTooSoonError

# Of the same thing, and of all that a tenant has.
PAUSE = timedelta(seconds=10)
WINDOW = timedelta(minutes=1)
MOST_IN_WINDOW = 10


def begin_check(provider: str, *, credential: Credential | None = None) -> ProviderCheck:
    """Take the turn to ask. Raises CheckTooSoonError.

    Commit before the provider is asked: whoever dies in between has used the turn up.
    """
    _take_turns()
    moment = now()
    lately = ProviderCheck.objects.filter(started_at__gt=moment - WINDOW).order_by("started_at")
    times = list(lately.values_list("started_at", flat=True))
    if len(times) >= MOST_IN_WINDOW:
        raise CheckTooSoonError(_seconds(times[-MOST_IN_WINDOW] + WINDOW - moment))
    check = ProviderCheck.objects.filter(provider=provider, credential=credential).first()
    if check and check.started_at + PAUSE > moment:
        raise CheckTooSoonError(_seconds(check.started_at + PAUSE - moment))
    begun, _ = ProviderCheck.objects.update_or_create(
        provider=provider, credential=credential, defaults=_blank(moment)
    )
    return begun


def finish_check(check: ProviderCheck, found: Mapping[str, Any]) -> ProviderCheck:
    """Keep what came of it, unless another check has begun since or its credential is gone."""
    row = ProviderCheck.objects.filter(id=check.id, started_at=check.started_at)
    row.update(**found, finished_at=now())
    return row.first() or check


def _blank(moment: datetime) -> dict[str, Any]:
    return {
        **{"started_at": moment, "finished_at": None, "ok": False, "reachable": False},
        **{"detail": "", "model": "", "latency_ms": 0, "limits": {}},
    }


def _take_turns() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            [f"provider checks of {current_tenant_id()}"],
        )


def _seconds(span: timedelta) -> int:
    return max(1, math.ceil(span.total_seconds()))
