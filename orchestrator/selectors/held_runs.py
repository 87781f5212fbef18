"""The runs that one gate holds, those first that have waited longest."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection

from orchestrator.models import Run
from orchestrator.selectors.home import run_rows
from orchestrator.selectors.runs import with_reasons
from tenants.principals import Principal

SHOWN: Final = 20
_HELD: Final = """
SELECT s.run_id, count(s.agent_run_id), min(s.since), min(s.until)
  FROM muster_standing(%s, %s) s
 WHERE s.reason = %s AND s.name = %s
 GROUP BY s.run_id ORDER BY min(s.since), s.run_id LIMIT %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRun:
    run: Run
    agent_runs: int
    since: datetime
    until: datetime | None


def held_runs(principal: Principal, *, reason: str, name: str) -> Sequence[HeldRun]:
    """The first `SHOWN` of them; `name` is that of `Held`."""
    with connection.cursor() as cursor:
        asked = [principal.tenant_id, principal.project_id, reason, name, SHOWN]
        cursor.execute(_HELD, asked)
        rows = cursor.fetchall()
    runs = with_reasons(run_rows().filter(id__in=[row[0] for row in rows]))
    by_id = {run.pk: run for run in runs}
    return [
        HeldRun(run=by_id[run_id], agent_runs=agent_runs, since=since, until=until)
        for run_id, agent_runs, since, until in rows
        if run_id in by_id
    ]
