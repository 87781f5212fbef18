"""Replay from a step's place on the page of its run, and the page of a batch."""

import re
from typing import Any

from django.http import HttpResponse
from django.urls import reverse

from orchestrator.models import AgentRun, Run
from tests.factories import make_tenant
from tests.integration.orchestrator.test_api_batches import GREET, batch
from tests.rest import made
from tests.rest import published as greeting
from tests.run_rows import make_run, published
from tests.world import World


def address(run: Run, page: str = "replay") -> str:
    return reverse(f"admin:orchestrator_run_{page}", args=[run.pk])


def ended(world: World, status: str = "completed") -> Run:
    return make_run(world, published(world), status, status=status)


def send(world: World, run: Run, **fields: Any) -> HttpResponse:
    return world.browser().post(address(run), fields)


def test_step_of_an_ended_run_offers_to_replay_from_it(acme: World) -> None:
    html = acme.browser().get(address(ended(acme), "change") + "?step=draft").content.decode()

    assert "/replay/?step=draft" in html


def test_run_that_goes_on_offers_no_replay(acme: World) -> None:
    run = make_run(acme, published(acme), "running", status="running")

    assert "/replay/" not in acme.browser().get(address(run, "change")).content.decode()
    assert "once it has ended" in acme.browser().get(address(run)).content.decode()


def test_page_tells_what_runs_again_and_what_that_saves(acme: World) -> None:
    html = acme.browser().get(address(ended(acme)) + "?step=draft").content.decode()

    assert "Runs again: draft, review." in html
    assert re.search(r"<dt>Reused</dt><dd>3 outputs</dd>", html)


def test_replay_starts_with_edited_input_and_overrides(acme: World) -> None:
    old = ended(acme)

    answer = send(
        acme,
        old,
        from_step="draft",
        input='{"topic": "tides"}',
        overrides='{"draft": {"prompt": "Shorter"}}',
    )

    with acme.scope():
        new = Run.objects.get(replay_of=old)
        reused = AgentRun.objects.filter(run=new, reused_from__isnull=False).count()
    assert answer.headers["Location"] == address(new, "change")
    assert (reused, new.overrides) == (3, {"draft": {"prompt": "Shorter"}})
    html = acme.browser().get(address(new, "change") + "?step=facts").content.decode()
    assert address(old, "change") in html
    assert "what it reused saved" in html
    assert "which saved" in html


def test_every_problem_stands_at_its_field(acme: World) -> None:
    html = send(
        acme,
        ended(acme),
        from_step="nowhere",
        input='{"topic": 3}',
        overrides='{"draft": {"provider": "nobody"}}',
    ).content.decode()

    assert "There is no such step" in html
    assert "topic: 3 is not of type" in html
    assert "draft.provider: There is no provider `nobody`" in html


def test_viewers_replay_nothing(live_db: None) -> None:
    viewer = make_tenant("viewer", role="viewer")
    run = ended(viewer)

    assert viewer.browser().get(address(run)).status_code == 403
    assert send(viewer, run, from_step="draft").status_code == 403
    html = viewer.browser().get(address(run, "change")).content.decode()
    assert "/replay/" not in html


def test_page_of_a_batch_shows_its_runs_and_cancels_them(acme: World) -> None:
    greeting(acme)
    found = made(batch(acme, GREET, GREET, name="nightly"))
    url = reverse("admin:orchestrator_runbatch_change", args=[found["id"]])

    html = acme.browser().get(url).content.decode()
    assert "nightly" in html
    assert all(run["id"] in html for run in found["runs"])
    acme.browser().post(reverse("admin:orchestrator_runbatch_cancel", args=[found["id"]]))

    with acme.scope():
        wanted = set(Run.objects.filter(batch=found["id"]).values_list("stop_wanted", flat=True))
    assert wanted == {"cancelled"}
