"""Hosts whose clocks are wrong: only the database's counts."""

import os
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from orchestrator.chaos import crew
from orchestrator.models import Approval, RunEvent
from orchestrator.services import approvals
from orchestrator.services.approvals import decide
from tenants.kernel.clock import now
from tests.integration.orchestrator.test_approvals import asking, person, the_approval
from tests.world import World

START = """
import sys, django
django.setup()
from tenants.models import Project
from tenants.scope import tenant_scope
from orchestrator.services.runs import start_run
from orchestrator.services.workflows import publish_spec
with tenant_scope(sys.argv[1]):
    step = {"agent": {"type": "tool", "tool": "echo"}, "arguments": {"value": 1}}
    spec = {"muster": 1, "name": "clock", "steps": {"a": step}}
    version = publish_spec(project=Project.objects.get(), spec=spec)
    run = start_run(workflow=version.workflow, version=version, input={})
    print(run.id, run.created_at.isoformat())
"""


@pytest.mark.parametrize("wrong_by", [-3600.0, 3600.0])
def test_run_is_as_old_as_the_database_says(acme: World, wrong_by: float) -> None:
    told = subprocess.run(
        [sys.executable, "-c", START, str(acme.tenant.id)],
        env={**os.environ, **crew._clock(wrong_by)},
        capture_output=True,
        text=True,
        check=True,
    )

    run_id, created_at = told.stdout.split()
    assert abs(datetime.fromisoformat(created_at) - now()) < timedelta(minutes=1)
    with acme.scope():
        (created,) = RunEvent.objects.filter(run=run_id)
        assert abs(created.at - now()) < timedelta(minutes=1)


def test_decision_in_time_holds_although_the_clock_here_is_ahead(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = asking(acme, expires="1h")
    monkeypatch.setattr(approvals, "now", lambda: now() + timedelta(days=1))

    with acme.scope():
        asked = the_approval(acme, run_id)
        decide(asked, principal=person(acme, "admin"), decision="approve")

        assert Approval.objects.get(id=asked.id).status == "approved"
