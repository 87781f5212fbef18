from copy import deepcopy
from typing import Any

import pytest
from django.urls import reverse

from orchestrator.models import Workflow
from orchestrator.services.drafts import draft_spec, save_draft
from tests.factories import make_tenant
from tests.run_rows import REPORT, published
from tests.world import World

SECOND = deepcopy(REPORT)
SECOND["steps"]["draft"]["prompt"] = "Write <b>boldly</b>: ${steps.facts.output}"
SECOND["steps"]["check"] = {"needs": ["review"], "agent": {"type": "aggregator"}}


@pytest.fixture
def workflow(acme: World) -> Workflow:
    """A workflow with two versions; the draft is the second."""
    published(acme)
    return published(acme, SECOND).workflow


def url(page: str, *arguments: Any) -> str:
    return reverse(f"admin:orchestrator_workflow_{page}", args=arguments)


def page_of(world: World, address: str) -> str:
    return world.browser().get(address).content.decode()


def spec_of(world: World, workflow: Workflow) -> dict[str, Any]:
    with world.scope():
        return draft_spec(Workflow.objects.get(pk=workflow.pk))


def test_page_shows_what_changed_between_two_versions(acme: World, workflow: Workflow) -> None:
    page = page_of(acme, url("diff", workflow.pk) + "?from=1&to=2")

    assert "/steps/draft/prompt" in page
    assert "Write &lt;b&gt;boldly&lt;/b&gt;" in page
    assert "<b>boldly" not in page
    assert ">check " in page
    assert '<span class="m-diff-added">+  check:' in page


def test_draft_is_compared_with_the_current_version_by_default(
    acme: World, workflow: Workflow
) -> None:
    assert "Nothing differs" in page_of(acme, url("diff", workflow.pk))
    with acme.scope():
        save_draft(project=acme.project, spec=deepcopy(REPORT), workflow=workflow)

    assert "Nothing differs" not in page_of(acme, url("diff", workflow.pk))
    assert "Nothing differs" in page_of(acme, url("diff", workflow.pk) + "?from=1")


@pytest.mark.parametrize("query", ["from=7", "to=x", "from=99999999999", "from=-1", "to=²"])
def test_versions_that_are_not_there_are_not_found(
    acme: World, workflow: Workflow, query: str
) -> None:
    assert acme.browser().get(url("diff", workflow.pk) + "?" + query).status_code == 404


def test_version_is_restored_as_the_draft(acme: World, workflow: Workflow) -> None:
    answer = acme.browser().post(url("version_restore", workflow.pk, 1), follow=True)

    assert "The draft is version 1 again" in answer.content.decode()
    assert "check" not in spec_of(acme, workflow)["steps"]
    with acme.scope():
        assert Workflow.objects.get().current_version.number == 2


def test_version_is_restored_and_published_as_a_new_one(acme: World, workflow: Workflow) -> None:
    answer = acme.browser().post(
        url("version_restore", workflow.pk, 1), {"publish": ""}, follow=True
    )

    assert "as version 3" in answer.content.decode()
    with acme.scope():
        assert Workflow.objects.get().current_version.number == 3


def test_name_that_is_taken_by_now_is_told_and_nothing_changes(
    acme: World, workflow: Workflow
) -> None:
    with acme.scope():
        save_draft(
            project=acme.project, spec={**deepcopy(SECOND), "name": "other"}, workflow=workflow
        )
        save_draft(project=acme.project, spec=deepcopy(REPORT))

    answer = acme.browser().post(url("version_restore", workflow.pk, 1), follow=True)

    assert "choose another name" in answer.content.decode()
    assert spec_of(acme, workflow)["name"] == "other"


def test_viewer_sees_no_button_and_may_not_press_it(live_db: None) -> None:
    viewer = make_tenant("viewer", role="viewer")
    with viewer.scope():
        workflow = published(viewer).workflow

    assert "Restore" not in page_of(viewer, url("version", workflow.pk, 1))
    refused = viewer.browser().post(url("version_restore", workflow.pk, 1))
    assert refused.status_code == 403


def test_versions_lead_to_their_differences(acme: World, workflow: Workflow) -> None:
    page = page_of(acme, url("change", workflow.pk))

    assert url("diff", workflow.pk) + "?from=1&amp;to=draft" in page
