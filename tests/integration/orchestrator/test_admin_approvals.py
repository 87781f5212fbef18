from typing import Any
from uuid import UUID

import pytest
from django.http import HttpResponse
from django.urls import reverse

from orchestrator.models import Approval
from orchestrator.services.control import cancel_run
from tenants.models import Membership
from tests.factories import make_tenant
from tests.integration.orchestrator.test_approvals import NOTE, asking, the_approval, the_run
from tests.world import World

INBOX = "/admin/orchestrator/approval/"


def inbox(world: World) -> str:
    return world.browser().get(INBOX).content.decode()


def page(world: World, approval: Approval) -> str:
    url = reverse("admin:orchestrator_approval_change", args=[approval.pk])
    return world.browser().get(url).content.decode()


def press(world: World, approval: Approval, decision: str, **fields: Any) -> HttpResponse:
    url = reverse("admin:orchestrator_approval_decide", args=[approval.pk])
    given = {f"{approval.pk.hex}-{name}": value for name, value in fields.items()}
    return world.browser().post(url, {"decision": decision, **given}, follow=True)


def asked(world: World, **fields: Any) -> Approval:
    return the_approval(world, asking(world, **fields))


def state(world: World, run_id: UUID) -> str:
    return the_approval(world, run_id).status


def test_inbox_shows_what_waits_and_the_menu_counts_it(acme: World) -> None:
    asked(acme, question="Publish ${input.title}?", show="# ${input.title}", expires="1h")

    shown = inbox(acme)

    assert "Publish Tides?" in shown
    assert "<h1>Tides</h1>" in shown
    assert "Left alone, it is rejected when it expires" in shown
    assert '1<span class="m-unseen"> waiting for you' in shown


def test_empty_inbox_says_so(acme: World) -> None:
    assert "Nothing waits for you" in inbox(acme)
    assert "waiting for you</span>" not in inbox(acme)


def test_one_click_approves(acme: World) -> None:
    approval = asked(acme)

    answer = press(acme, approval, "approve")

    assert "Approved." in answer.content.decode()
    found = the_approval(acme, approval.run_id)
    assert (found.status, found.decided_by["label"]) == ("approved", acme.owner.username)


def test_form_is_filled_in_field_by_field(acme: World) -> None:
    approval = asked(acme, form=NOTE)

    press(acme, approval, "approve", **{"in-0": "fine"})

    found = the_approval(acme, approval.run_id)
    assert found.form == {"note": "fine"}
    assert "<h3>Form</h3>" in page(acme, found)


def test_form_that_was_left_empty_is_not_shown(acme: World) -> None:
    approval = asked(acme, form={**NOTE, "required": []})

    press(acme, approval, "approve")

    found = the_approval(acme, approval.run_id)
    assert (found.status, found.form) == ("approved", {})
    assert "<h3>Form</h3>" not in page(acme, found)


def test_what_is_wrong_stands_at_its_field(acme: World) -> None:
    approval = asked(acme, form=NOTE)

    answer = press(acme, approval, "approve")

    assert "note is required" in answer.content.decode()
    assert state(acme, approval.run_id) == "open"


def test_rejection_needs_no_form(acme: World) -> None:
    properties = {**NOTE["properties"], "grade": {"type": "integer", "default": 3}}
    approval = asked(acme, form={**NOTE, "properties": properties})

    press(acme, approval, "reject", **{"in-1": "3"})

    assert state(acme, approval.run_id) == "rejected"


@pytest.mark.parametrize("given", ["", "{", '{"a": 1}', "[1]"])
def test_schema_without_fields_is_answered_in_json(acme: World, given: str) -> None:
    approval = asked(acme, form={"type": "array", "items": {"type": "integer"}})

    press(acme, approval, "approve", input=given)

    assert state(acme, approval.run_id) == ("approved" if given == "[1]" else "open")


@pytest.mark.parametrize("decision", ["", "maybe"])
def test_unknown_button_decides_nothing(acme: World, decision: str) -> None:
    approval = asked(acme)

    assert press(acme, approval, decision).status_code == 200
    assert state(acme, approval.run_id) == "open"


def test_second_decision_is_told_who_was_faster(acme: World) -> None:
    approval = asked(acme)
    press(acme, approval, "reject")

    assert "it is rejected" in press(acme, approval, "approve").content.decode()


def test_run_that_is_being_stopped_leaves_the_inbox(acme: World) -> None:
    approval = asked(acme)
    with acme.scope():
        cancel_run(the_run(acme, approval.run_id))

    assert "Nothing waits for you" in inbox(acme)
    assert "being stopped" in press(acme, approval, "approve").content.decode()


def test_question_for_others_is_seen_but_not_decided(acme: World) -> None:
    approval = asked(acme, approvers={"roles": ["editor"]})

    assert "Nothing waits for you" in inbox(acme)
    assert "Only a member whose role is editor may decide this" in page(acme, approval)
    assert "whose role is editor" in press(acme, approval, "approve").content.decode()
    assert state(acme, approval.run_id) == "open"


def test_viewer_looks_and_decides_nothing(live_db: None) -> None:
    world = make_tenant("viewer", role="viewer")
    approval = asked(world, approvers={"roles": ["viewer"]})

    assert "Your role only looks" in page(world, approval)
    assert press(world, approval, "approve").status_code == 403


def test_member_of_two_tenants_sees_the_open_one_alone(acme: World, globex: World) -> None:
    with globex.scope():
        Membership.objects.create(user=acme.owner, role="owner")
    approval = asked(globex, question="Only Globex asks this")
    client = acme.browser()
    client.post(reverse("admin:switch_tenant"), {"tenant": acme.tenant.id})

    assert "Only Globex asks this" not in client.get(INBOX).content.decode()
    url = reverse("admin:orchestrator_approval_decide", args=[approval.pk])
    assert client.post(url, {"decision": "approve"}).status_code == 404


def test_page_of_the_run_leads_to_its_question(acme: World) -> None:
    approval = asked(acme, question="Publish <b>it</b>?")
    run_page = reverse("admin:orchestrator_run_change", args=[approval.run_id])

    shown = acme.browser().get(run_page).content.decode()

    assert "Publish &lt;b&gt;it&lt;/b&gt;?" in shown
    assert reverse("admin:orchestrator_approval_change", args=[approval.pk]) in shown


def test_hostile_texts_are_shown_as_texts(acme: World) -> None:
    asked(acme, question="<script>alert(1)</script>", show={"x": "</pre><script>"})

    shown = inbox(acme)

    assert "<script>alert(1)" not in shown
    assert "&lt;script&gt;alert(1)" in shown
