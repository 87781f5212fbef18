"""A run asks, a person answers over REST, and workers go on; or nobody answers in time."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from orchestrator.models import AgentRun, Approval, RunEvent
from tests import workers
from tests.e2e.stories import echo, ended, start, statuses
from tests.eventually import eventually
from tests.rest import get, made, post
from tests.world import World

FORM = {"type": "object", "required": ["note"], "properties": {"note": {"type": "string"}}}


@pytest.fixture
def cluster(django_db_setup: None, log_dir: Path) -> Iterator[None]:
    with (
        workers.control("asks", log_dir, MUSTER_SWEEP_SECONDS="0.5"),
        workers.agents("works", log_dir),
    ):
        yield


pytestmark = pytest.mark.usefixtures("cluster")


def asking(world: World, *, strategy: str, **fields: object) -> UUID:
    approval = {"question": "Publish ${steps.draft.output}?", **fields}
    steps = {
        "draft": echo(value="${input.title}"),
        "ok": {"needs": ["draft"], "approval": approval},
        "publish": echo(value="${steps.ok.output.decision ?? 'nothing'}", needs=["ok"]),
    }
    return start(world, steps, given={"title": "Tides"}, strategy=strategy)


def question(world: World, run_id: UUID) -> Approval | None:
    with world.scope():
        return Approval.objects.filter(run_id=run_id, status="open").first()


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_run_goes_on_when_a_person_has_decided(acme: World, strategy: str) -> None:
    run_id = asking(acme, strategy=strategy, form=FORM)
    asked = eventually(lambda: question(acme, run_id))
    client = acme.client()
    assert made(get(client, f"runs/{run_id}"))["status"] == "running"

    body = {"decision": "approve", "form": {"note": "fine"}}
    made(post(client, f"approvals/{asked.id}/decide", body))
    run = ended(acme, run_id)

    assert asked.question == "Publish Tides?"
    assert (run.status, statuses(acme, run_id)["publish"]) == ("completed", "completed")
    with acme.scope():
        told = AgentRun.objects.get(run_id=run_id, step="publish").output
        types = set(RunEvent.objects.filter(run_id=run_id).values_list("type", flat=True))
    assert told == "approve"
    assert {"approval.requested", "approval.decided"} <= types


def test_run_nobody_decides_ends_as_its_author_said(acme: World) -> None:
    run = ended(acme, asking(acme, strategy="adaptive", expires="1s", on_expire="reject"))

    assert run.status == "completed"
    assert statuses(acme, run.id) == {
        "draft": "completed",
        "ok": "skipped",
        "publish": "skipped",
    }
