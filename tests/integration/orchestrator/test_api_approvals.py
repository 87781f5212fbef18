from typing import Any
from uuid import UUID

import pytest

from orchestrator.models import Approval, Run
from orchestrator.services.advance import advance
from orchestrator.services.control import cancel_run
from tests.integration.orchestrator.test_approvals import NOTE, asking, the_approval
from tests.rest import get, made, post, problems
from tests.world import World


@pytest.fixture
def asked(acme: World) -> Approval:
    run_id = asking(acme, question="Publish ${input.title}?", show="${input}", form=NOTE)
    return the_approval(acme, run_id)


def decide(world: World, approval: Approval, *scopes: str, **body: Any) -> Any:
    return post(world.client(*scopes), f"approvals/{approval.id}/decide", body)


def test_approval_tells_what_is_asked_and_what_it_cost_so_far(acme: World, asked: Approval) -> None:
    seen = made(get(acme.client("runs:read"), f"approvals/{asked.id}"))

    assert (seen["question"], seen["show"]) == ("Publish Tides?", {"title": "Tides"})
    assert (seen["status"], seen["step"], seen["cost_usd"]) == ("open", "ok", "0")
    assert (seen["form_schema"], seen["form"], seen["decided_by"]) == (NOTE, None, None)
    assert seen["run"]["workflow"] == "story"
    assert seen["approvers"] == {"roles": ["admin", "owner"], "exclude_requester": False}


def test_list_is_narrowed(acme: World, asked: Approval) -> None:
    client = acme.client()

    def found(query: str) -> list[str]:
        return [row["id"] for row in made(get(client, f"approvals?{query}"))["results"]]

    assert found(f"status=open&run={asked.run_id}&workflow=story") == [str(asked.id)]
    assert found("status=approved") == found("workflow=other") == []
    assert problems(get(client, "approvals?status=x")) == {("/status", "invalid_choice")}


def test_decision_closes_it(acme: World, asked: Approval) -> None:
    answer = made(decide(acme, asked, "approvals:write", decision="approve", form={"note": "ok"}))

    assert (answer["status"], answer["form"]) == ("approved", {"note": "ok"})
    assert answer["decided_by"]["label"] == "test"


def test_second_decision_is_told_the_state(acme: World, asked: Approval) -> None:
    made(decide(acme, asked, decision="reject"))

    answer = decide(acme, asked, decision="approve", form={"note": "ok"})

    assert answer.status_code == 409
    assert answer.json()["code"] == "approval_closed"
    assert "rejected" in answer.json()["detail"]


def test_form_has_all_its_problems_named(acme: World, asked: Approval) -> None:
    assert problems(decide(acme, asked, decision="approve")) == {("/form/note", "required")}
    assert problems(decide(acme, asked, decision="maybe", x=1)) == {
        ("/decision", "invalid_choice"),
        ("/x", "unknown_field"),
    }


@pytest.mark.parametrize("form", [[], "x", 3, {"note": None}, {"note": "a\0b"}])
def test_odd_forms_are_refused(acme: World, asked: Approval, form: Any) -> None:
    assert decide(acme, asked, decision="approve", form=form).status_code == 400


def test_run_that_is_being_stopped_is_not_decided(acme: World, asked: Approval) -> None:
    with acme.scope():
        cancel_run(Run.objects.get(id=asked.run_id))

    answer = decide(acme, asked, decision="reject")

    assert answer.status_code == 409
    assert "being stopped" in answer.json()["detail"]


def test_other_roles_are_refused(acme: World) -> None:
    asked = the_approval(acme, asking(acme, approvers={"roles": ["editor"]}))

    answer = decide(acme, asked, decision="approve")

    assert (answer.status_code, answer.json()["code"]) == (403, "not_an_approver")


def test_key_that_started_the_run_may_be_kept_from_deciding(acme: World) -> None:
    asking(acme, approvers={"roles": ["admin"], "exclude_requester": True})
    key = acme.client()
    run = made(post(key, "runs", {"workflow": "story", "input": {"title": "Tides"}}))
    advance(acme.tenant.id, UUID(run["id"]))
    asked = the_approval(acme, run["id"])

    refused = post(key, f"approvals/{asked.id}/decide", {"decision": "approve"})

    assert (refused.status_code, refused.json()["code"]) == (403, "not_an_approver")
    assert decide(acme, asked, decision="approve").status_code == 200


def test_repeated_decision_is_replayed(acme: World, asked: Approval) -> None:
    client, body = acme.client(), {"decision": "approve", "form": {"note": "ok"}}
    first = post(client, f"approvals/{asked.id}/decide", body, idempotency_key="once")

    again = post(client, f"approvals/{asked.id}/decide", body, idempotency_key="once")

    assert made(first) == made(again)
    assert again.headers["Idempotent-Replayed"] == "true"


def test_stranger_gets_404(globex: World, asked: Approval) -> None:
    assert get(globex.client(), f"approvals/{asked.id}").status_code == 404
    assert decide(globex, asked, decision="approve").status_code == 404
