"""Steps that ask people: from the question to what follows from the answer."""

import threading
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from orchestrator.execution import engine_db
from orchestrator.models import AgentRun, Approval, Run, RunEvent
from orchestrator.selectors.approvals import inbox, inbox_size
from orchestrator.services.advance import advance
from orchestrator.services.approvals import (
    ApprovalClosedError,
    FormInvalidError,
    NotApproverError,
    decide,
)
from orchestrator.services.control import cancel_run, pause_run, resume_run, retry_run
from orchestrator.services.sweep import sweep
from tenants.models import AuditEntry
from tenants.principals import Principal
from tenants.roles import ROLE_SCOPES
from tenants.scope import acting_as
from tests.e2e.stories import echo, start, statuses
from tests.world import World

NOTE = {"type": "object", "required": ["note"], "properties": {"note": {"type": "string"}}}


def person(world: World, role: str = "admin", name: str = "ada") -> Principal:
    return Principal(
        tenant_id=world.tenant.id,
        scopes=frozenset(ROLE_SCOPES[role]),
        actor_kind="user",
        actor_id=name,
        label=name,
        role=role,
    )


def approval(**fields: Any) -> dict[str, Any]:
    return {"approval": {"question": "Publish?", **fields}}


def asking(world: World, *, strategy: str = "adaptive", after: Any = None, **fields: Any) -> UUID:
    """A run that waits for an answer, with a step behind the question."""
    steps = {"ok": approval(**fields), "after": {**echo(value="done"), "needs": ["ok"]}}
    run_id = start(world, steps | (after or {}), strategy=strategy, given={"title": "Tides"})
    advance(world.tenant.id, run_id)
    return run_id


def the_approval(world: World, run_id: UUID) -> Approval:
    """The newest of the run."""
    with world.scope():
        return Approval.objects.select_related("run").filter(run_id=run_id).first()


def answer(world: World, run_id: UUID, decision: str, *, role: str = "admin", **given: Any) -> None:
    with world.scope():
        asked = the_approval(world, run_id)
        decide(asked, principal=person(world, role), decision=decision, **given)
    advance(world.tenant.id, run_id)


def the_step(world: World, run_id: UUID, name: str = "ok") -> AgentRun:
    with world.scope():
        return AgentRun.objects.get(run_id=run_id, step=name)


def the_run(world: World, run_id: UUID) -> Run:
    with world.scope():
        return Run.objects.get(id=run_id)


def let_expire(world: World, run_id: UUID) -> None:
    past = "SET {} = clock_timestamp() - interval '1 s' WHERE run_id = %s"
    with world.scope(), connection.cursor() as cursor:
        cursor.execute("UPDATE approval " + past.format("expires_at"), [run_id])
        cursor.execute(
            "UPDATE agent_run " + past.format("due_at") + " AND due_at IS NOT NULL", [run_id]
        )


def test_question_is_asked_with_what_it_shows(acme: World) -> None:
    run_id = asking(
        acme, question="Publish ${input.title}?", show={"all": "${input}"}, expires="1h"
    )

    asked, step = the_approval(acme, run_id), the_step(acme, run_id)
    assert (asked.question, asked.show) == ("Publish Tides?", {"all": {"title": "Tides"}})
    assert (asked.status, asked.roles) == ("open", ["admin", "owner"])
    assert (step.status, step.waiting_for) == ("waiting", "approval")
    assert asked.expires_at == step.due_at is not None


def test_question_is_asked_once(acme: World) -> None:
    run_id = asking(acme)

    advance(acme.tenant.id, run_id)

    with acme.scope():
        assert Approval.objects.filter(run_id=run_id).count() == 1


@pytest.mark.parametrize("strategy", ["adaptive", "levels", "sequential"])
def test_approval_lets_the_run_go_on(acme: World, strategy: str) -> None:
    run_id = asking(acme, strategy=strategy, form=NOTE)

    answer(acme, run_id, "approve", form={"note": "fine"})

    step = the_step(acme, run_id)
    assert step.output.pop("at").endswith("Z")
    assert step.output == {"decision": "approve", "by": "ada", "form": {"note": "fine"}}
    assert statuses(acme, run_id) == {"ok": "completed", "after": "queued"}


@pytest.mark.parametrize("strategy", ["adaptive", "levels"])
@pytest.mark.parametrize(
    ("on_reject", "ok", "after", "run"),
    [
        ("skip", "skipped", "skipped", "completed"),
        ("fail", "failed", "skipped", "failed"),
        ("continue", "completed", "queued", "running"),
    ],
)
def test_rejection_does_as_its_author_said(
    acme: World, strategy: str, on_reject: str, ok: str, after: str, run: str
) -> None:
    run_id = asking(acme, strategy=strategy, on_reject=on_reject)

    answer(acme, run_id, "reject")

    assert statuses(acme, run_id) == {"ok": ok, "after": after}
    assert the_run(acme, run_id).status == run
    assert the_step(acme, run_id).status_reason == "Rejected by ada"


def test_rejection_to_continue_tells_what_was_decided(acme: World) -> None:
    run_id = asking(acme, on_reject="continue")

    answer(acme, run_id, "reject")

    assert the_step(acme, run_id).output["decision"] == "reject"


@pytest.mark.parametrize("strategy", ["adaptive", "levels"])
def test_step_behind_a_rejection_and_another_step_follows_its_join(
    acme: World, strategy: str
) -> None:
    both = {"needs": ["ok", "other"]}
    behind = {"other": approval(), "all": {**echo(value=1), **both}}
    run_id = asking(acme, strategy=strategy, after=behind)
    with acme.scope():
        rows = Approval.objects.select_related("run").filter(run_id=run_id)
        asked = {row.step: row for row in rows}
        decide(asked["ok"], principal=person(acme), decision="reject")
        decide(asked["other"], principal=person(acme), decision="approve")
    advance(acme.tenant.id, run_id)

    found = statuses(acme, run_id)
    assert (found["after"], found["all"]) == ("skipped", "queued")


@pytest.mark.parametrize(
    ("on_expire", "on_reject", "ok", "output"),
    [
        ("approve", "skip", "completed", ("approve", None)),
        ("reject", "continue", "completed", ("reject", None)),
        ("reject", "skip", "skipped", None),
        ("reject", "fail", "failed", None),
        ("fail", "skip", "failed", None),
    ],
)
def test_nobody_deciding_in_time_does_as_its_author_said(
    acme: World, on_expire: str, on_reject: str, ok: str, output: tuple[str, None] | None
) -> None:
    run_id = asking(acme, expires="1h", on_expire=on_expire, on_reject=on_reject)
    let_expire(acme, run_id)

    sweep()

    step, asked = the_step(acme, run_id), the_approval(acme, run_id)
    assert (step.status, step.status_reason) == (ok, "Nobody decided in time")
    assert (asked.status, asked.decided_by) == ("expired", None)
    told = step.output and (step.output["decision"], step.output["by"])
    assert told == output
    if ok == "failed":
        assert step.error["code"] == "approval_expired"


def test_sweep_leaves_what_has_time(acme: World) -> None:
    run_id = asking(acme, expires="1h")

    sweep()

    assert the_approval(acme, run_id).status == "open"


def test_what_has_expired_cannot_be_decided(acme: World) -> None:
    run_id = asking(acme, expires="1h")
    let_expire(acme, run_id)

    with pytest.raises(ApprovalClosedError, match="expired"):
        answer(acme, run_id, "approve")


def test_question_that_cannot_be_rendered_fails_its_step(acme: World) -> None:
    steps = {
        "make": echo(value={"x": 1}),
        "ok": {**approval(question="${steps.make.output.y.z}"), "needs": ["make"]},
    }
    run_id = start(acme, steps, failure={"mode": "partial"})
    with acme.scope():
        AgentRun.objects.filter(run_id=run_id, step="make").update(status="queued")
        AgentRun.objects.filter(run_id=run_id, step="make").update(
            status="running", lease_until="2100-01-01T00:00Z"
        )
        AgentRun.objects.filter(run_id=run_id, step="make").update(
            status="completed", output={"x": 1}
        )

    advance(acme.tenant.id, run_id)

    step = the_step(acme, run_id)
    assert (step.status, step.error["code"]) == ("failed", "missing_variable")
    assert "`steps.make.output` offers x" in step.status_reason
    assert the_run(acme, run_id).finished_at is not None


@pytest.mark.parametrize("role", ["owner", "editor"])
def test_other_roles_may_not_decide(acme: World, role: str) -> None:
    run_id = asking(acme, approvers={"roles": ["admin"]})

    with pytest.raises(NotApproverError, match="whose role is admin"):
        answer(acme, run_id, "approve", role=role)

    assert the_approval(acme, run_id).status == "open"


def test_who_started_the_run_may_be_kept_from_deciding(acme: World) -> None:
    ada, bob = person(acme), person(acme, name="bob")
    with acting_as(ada.actor(ip="", request_id="")):
        run_id = asking(acme, approvers={"roles": ["admin"], "exclude_requester": True})

    with acme.scope():
        asked = the_approval(acme, run_id)
        assert (inbox_size(ada), inbox_size(bob)) == (0, 1)
        with pytest.raises(NotApproverError, match="started the run"):
            decide(asked, principal=ada, decision="approve")
        assert decide(asked, principal=bob, decision="approve").status == "approved"


def test_form_is_checked_with_all_its_problems(acme: World) -> None:
    schema = {
        "type": "object",
        "required": ["note", "sum"],
        "properties": {"note": {"type": "string"}, "sum": {"type": "integer"}},
    }
    run_id = asking(acme, form=schema)

    with pytest.raises(FormInvalidError) as refused:
        answer(acme, run_id, "approve", form={"sum": "x"})

    assert {problem.loc for problem in refused.value.problems} == {"/form/note", "/form/sum"}


def test_form_is_filled_in_for_an_approval_and_may_be_left_out_of_a_rejection(acme: World) -> None:
    with_form, without = asking(acme, form=NOTE), asking(acme)

    with pytest.raises(FormInvalidError):
        answer(acme, with_form, "approve")
    with pytest.raises(FormInvalidError, match="Nothing is to be filled in"):
        answer(acme, without, "approve", form={"note": "x"})
    answer(acme, with_form, "reject")

    assert the_approval(acme, with_form).status == "rejected"


def test_defaults_of_the_form_are_filled_in(acme: World) -> None:
    schema = {"type": "object", "properties": {"grade": {"type": "integer", "default": 3}}}
    run_id = asking(acme, form=schema)

    answer(acme, run_id, "approve")

    assert the_step(acme, run_id).output["form"] == {"grade": 3}


def test_of_two_deciders_one_wins(acme: World) -> None:
    run_id = asking(acme)
    gate, results = threading.Barrier(2), []

    def press(name: str, decision: str) -> None:
        try:
            with acme.scope():
                asked = the_approval(acme, run_id)
                gate.wait()
                decide(asked, principal=person(acme, name=name), decision=decision)
            results.append(decision)
        except ApprovalClosedError as error:
            results.append(str(error))
        finally:
            connection.close()

    threads = [
        threading.Thread(target=press, args=pair)
        for pair in [("ada", "approve"), ("bob", "reject")]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    decided = the_approval(acme, run_id).status
    word = {"approved": "approve", "rejected": "reject"}[decided]
    assert sorted(results) == sorted([word, f"It cannot be decided any more: it is {decided}."])


def test_cancelling_the_run_withdraws_the_question(acme: World) -> None:
    run_id = asking(acme)
    with acme.scope():
        cancel_run(the_run(acme, run_id))
        assert inbox_size(person(acme)) == 0
    with pytest.raises(ApprovalClosedError, match="being stopped"):
        answer(acme, run_id, "approve")

    advance(acme.tenant.id, run_id)

    assert the_approval(acme, run_id).status == "withdrawn"
    assert the_run(acme, run_id).status == "cancelled"
    with pytest.raises(ApprovalClosedError, match="withdrawn"):
        answer(acme, run_id, "approve")


@pytest.mark.parametrize("strategy", ["adaptive", "levels"])
def test_paused_run_is_decided_and_goes_on_when_resumed(acme: World, strategy: str) -> None:
    run_id = asking(acme, strategy=strategy)
    with acme.scope():
        pause_run(the_run(acme, run_id))

    answer(acme, run_id, "approve")

    assert statuses(acme, run_id)["ok"] == "completed"
    assert statuses(acme, run_id)["after"] != "queued"
    with acme.scope():
        resume_run(the_run(acme, run_id))
    advance(acme.tenant.id, run_id)
    assert statuses(acme, run_id)["after"] == "queued"


@pytest.mark.parametrize("strategy", ["adaptive", "levels"])
def test_retried_run_asks_anew(acme: World, strategy: str) -> None:
    run_id = asking(acme, strategy=strategy, on_reject="fail")
    answer(acme, run_id, "reject")

    with acme.scope():
        retry_run(the_run(acme, run_id))
    advance(acme.tenant.id, run_id)

    with acme.scope():
        found = Approval.objects.filter(run_id=run_id).values_list("status", flat=True)
        assert sorted(found) == ["open", "rejected"]
    answer(acme, run_id, "approve")
    assert statuses(acme, run_id) == {"ok": "completed", "after": "queued"}


def test_old_question_of_a_retried_run_stays_closed(acme: World) -> None:
    run_id = asking(acme, on_reject="fail")
    answer(acme, run_id, "reject")
    old = the_approval(acme, run_id)
    with acme.scope():
        retry_run(the_run(acme, run_id))
    advance(acme.tenant.id, run_id)

    with acme.scope():
        old.status = "open"  # as somebody saw it before
        with pytest.raises(ApprovalClosedError, match="rejected"):
            decide(old, principal=person(acme), decision="approve")
    assert the_approval(acme, run_id).status == "open"


def test_history_tells_who_decided(acme: World) -> None:
    run_id = asking(acme)
    answer(acme, run_id, "approve")

    with acme.scope():
        told = RunEvent.objects.filter(run_id=run_id, type__startswith="approval.")
        assert [event.type for event in told] == ["approval.requested", "approval.decided"]
        assert told[1].data["by"] == "ada"


def test_audit_log_tells_who_decided_but_not_what_was_shown(acme: World) -> None:
    run_id = asking(acme, question="The secret ${input.title}?")
    with acting_as(person(acme).actor(ip="10.0.0.1", request_id="")):
        answer(acme, run_id, "approve")

    with acme.scope():
        lines = list(AuditEntry.objects.filter(object_type="approval").order_by("id"))
    assert [line.action for line in lines] == ["approval.created", "approval.changed"]
    assert (lines[0].actor_kind, lines[1].actor_label) == ("system", "ada")
    assert "secret" not in str([(line.before, line.after) for line in lines])


def test_stranger_sees_and_decides_nothing(acme: World, globex: World) -> None:
    run_id = asking(acme)
    asked = the_approval(acme, run_id)

    with globex.scope():
        assert list(inbox(person(globex))) == []
    closed = engine_db.many(
        "SELECT * FROM muster_decide_approval(%s, %s, 'approved', '{}', NULL)",
        globex.tenant.id,
        asked.id,
    )

    assert closed == []
    assert the_approval(acme, run_id).status == "open"


@pytest.mark.parametrize("strategy", ["adaptive", "levels"])
def test_each_round_of_a_loop_asks_anew(acme: World, strategy: str) -> None:
    loop = {
        "steps": {"ok": approval(on_reject="continue")},
        "until": 'steps.ok.output.decision == "approve"',
        "max_rounds": 2,
        "output": "${steps.ok.output.decision}",
    }
    run_id = start(acme, {"agree": {"loop": loop}}, strategy=strategy)
    advance(acme.tenant.id, run_id)

    answer(acme, run_id, "reject")
    answer(acme, run_id, "approve")

    run = the_run(acme, run_id)
    assert (run.status, run.output) == ("completed", "approve")
