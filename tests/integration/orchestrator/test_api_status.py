from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from costs.models import CostEntry
from orchestrator.models import AgentRun, Run
from tenants.kernel.clock import now
from tenants.kernel.models import uuid7
from tenants.models import Project
from tests.rest import get, made, problems
from tests.run_rows import make_run, published
from tests.world import World

STEPS = ("outline", "facts", "quotes", "draft", "review")
DONE = dict.fromkeys(STEPS, "completed")
BROKEN = {**DONE, "quotes": "failed", "draft": "skipped", "review": "skipped"}


@pytest.fixture
def worked(acme: World) -> World:
    """Acme with a completed, a failed and a waiting run."""
    version = published(acme)
    make_run(acme, version, DONE, status="completed")
    make_run(acme, version, BROKEN, status="failed")
    make_run(acme, version, "pending", status="pending")
    return acme


def status(world: World, query: str = "", client: Client | None = None) -> dict[str, Any]:
    return made(get(client or world.client(), f"status{query}"))


def test_status_counts_what_was_done(worked: World) -> None:
    found = status(worked)

    assert found["tenant"]["slug"] == worked.tenant.slug
    assert found["workflows"] == {
        "started": 3,
        "completed": 1,
        "partially_completed": 0,
        "failed": 1,
        "cancelled": 0,
        "budget_exceeded": 0,
        "live": 1,
    }
    assert found["agents"] == {"executed": 8, "failed": 1, "average_seconds": 3.1}
    assert found["api_calls"] == 8
    assert found["tokens"]["total"] == 8 * 412 + 7 * 187
    assert found["cost_usd"] == "0.0034055"


def test_window_leaves_out_what_ended_before(worked: World) -> None:
    long_ago = now() - timedelta(hours=3)
    with worked.scope():
        Run.objects.exclude(status="pending").update(created_at=long_ago, finished_at=long_ago)
        AgentRun.objects.update(finished_at=long_ago)

    found = status(worked, "?since=2h")

    assert found["workflows"]["started"] == 1
    assert (found["workflows"]["completed"], found["agents"]["executed"]) == (0, 0)
    assert found["agents"]["average_seconds"] is None


def test_correction_is_money_and_no_call(worked: World) -> None:
    before = status(worked)
    with worked.scope():
        line = CostEntry.objects.filter(tenant=worked.tenant, kind="call").first()
        line.pk, line.kind, line.amount_nano = uuid7(), "correction", -86_500
        line.input_tokens = line.output_tokens = 0
        line.save(force_insert=True)

    after = status(worked)

    assert after["api_calls"] == before["api_calls"]
    assert after["cost_usd"] == "0.003319"


def test_key_of_a_project_sees_that_project(worked: World) -> None:
    with worked.scope():
        other = Project.objects.create(slug="other", name="Other")
    key = worked.key("runs:read", project=other)

    found = status(worked, client=Client(headers={"authorization": f"Bearer {key}"}))

    assert set(found["workflows"].values()) == {0}
    assert (found["agents"]["executed"], found["api_calls"]) == (0, 0)


def test_operator_sees_all_tenants_together(worked: World, globex: World) -> None:
    make_run(globex, published(globex), DONE, status="completed")

    found = status(worked, "?tenants=all", client=worked.operator())

    # Other tests' tenants count too.
    assert found["tenant"] is None
    assert found["workflows"]["started"] >= 4
    assert found["workflows"]["completed"] >= 2
    assert found["agents"]["executed"] >= 13
    assert status(globex)["workflows"]["started"] == 1


def test_nobody_else_sees_all_tenants(worked: World) -> None:
    assert get(worked.client(), "status?tenants=all").status_code == 403
    assert get(worked.browser(), "status?tenants=all").status_code == 403


@pytest.mark.parametrize("since", ["x", "0s", "-1h", "99999h", "24", "1d%00"])
def test_span_of_time_that_is_none_is_refused(acme: World, since: str) -> None:
    answer = get(acme.client(), f"status?since={since}")

    assert answer.status_code == 400
    assert {loc for loc, _ in problems(answer)} == {"/since"}


def test_first_page_tells_a_tenant_of_itself_and_an_operator_of_all(worked: World) -> None:
    own = worked.browser().get("/admin/").content.decode()
    all_of_them = worked.operator().get("/admin/").content.decode()

    assert "The last 24 hours" in own
    assert "All tenants" not in own
    assert "All tenants, the last 24 hours" in all_of_them
