"""What a run went through, as its page and its documents tell it: the engine did all of it."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from orchestrator.execution.claims import claim
from orchestrator.services.advance import advance
from orchestrator.services.sweep import sweep
from tests.e2e.stories import echo, start
from tests.engine_driver import drain, step_of
from tests.integration.orchestrator.test_engine_calls import child_of, published
from tests.integration.orchestrator.test_engine_waits import LONG, execute, flaky, make_due
from tests.rest import get, made
from tests.world import World


def page(world: World, run_id: UUID, query: str = "") -> str:
    address = f"/admin/orchestrator/run/{run_id}/change/{query}"
    answer = world.browser().get(address)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def document(world: World, run_id: UUID, name: str) -> Any:
    return made(get(world.client(), f"runs/{run_id}/{name}"))


def agent_run(world: World, run_id: UUID, step: str) -> dict[str, Any]:
    rows = document(world, run_id, "agent-runs")["results"]
    return next(row for row in rows if row["step"] == step)


def tried_again(world: World) -> UUID:
    """A run whose only step failed twice and waits for its last attempt."""
    run_id = start(world, {"a": flaky(retry={**LONG, "attempts": 3})})
    advance(world.tenant.id, run_id)
    execute(world, run_id)
    make_due(world, run_id)
    sweep()
    execute(world, run_id)
    return run_id


def test_retries_are_told_with_their_errors(acme: World) -> None:
    run_id = tried_again(acme)

    shown, told = page(acme, run_id), agent_run(acme, run_id, "a")

    assert "<dt>Tried again</dt><dd>1</dd>" in shown
    assert shown.count("overloaded: simulated failure</p>") == 2
    assert "The last attempt: <strong>provider error</strong>" in shown
    assert [each["outcome"] for each in told["attempts"]] == ["failed", "failed"]
    assert all(each["error"]["code"] == "provider_error" for each in told["attempts"])


def test_waits_are_told_with_their_reason_and_end(acme: World) -> None:
    run_id = tried_again(acme)

    shown, told = page(acme, run_id), agent_run(acme, run_id, "a")
    metrics = document(acme, run_id, "metrics")

    assert "Waits for its next attempt, since" in shown
    assert "<dt>Waited</dt>" in shown
    assert "for its next attempt until" in shown  # among the events
    assert told["waiting"]["reason"] == "retry"
    assert told["waiting"]["until"]
    assert metrics["status_reason"] == "1 of 1 step waits"
    assert metrics["tasks"][0]["execution"]["waiting_reasons_ms"].keys() == {"retry"}


def test_home_tells_what_is_waited_for(acme: World) -> None:
    tried_again(acme)

    shown = acme.browser().get("/admin/").content.decode()

    assert "1 agent for its next attempt" in shown
    assert "1 of 1 step waits" in shown


def test_recovered_work_is_told(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    advance(acme.tenant.id, run_id)
    taken = step_of(acme, run_id, "a")
    claim(acme.tenant.id, taken.id, worker="w0@host", lease=timedelta(seconds=-1))
    sweep()
    drain(acme, run_id)

    shown, told = page(acme, run_id), agent_run(acme, run_id, "a")
    events = document(acme, run_id, "events")["results"]

    assert "<dt>Recovered</dt><dd>1</dd>" in shown
    assert "Recovered after a worker stopped answering or left" in shown
    assert "attempt 2, 1 worker lost" in shown
    assert "<dt>Waited</dt>" not in shown
    assert [each["outcome"] for each in told["attempts"]] == ["lost", "completed"]
    assert "w0@host stopped renewing its lease" in told["attempts"][0]["error"]["message"]
    assert "agent.recovered" in [event["type"] for event in events]


def test_reasons_are_told_of_the_run_and_of_each_step(acme: World) -> None:
    steps = {
        "a": echo(value={"n": 1}),
        "b": {**echo(value=1, needs=["a"]), "when": "steps.a.output.n == 2"},
        "c": {"agent": {"type": "tool", "tool": "calculator"}, "arguments": {"expression": "1/0"}},
    }
    run_id = start(acme, steps, failure={"mode": "partial"})
    drain(acme, run_id)

    shown, reason = page(acme, run_id), document(acme, run_id, "metrics")["status_reason"]

    assert reason == "1 of 3 steps failed, 1 completed"
    assert reason in shown
    assert "Its condition <code>steps.a.output.n == 2</code> is false" in shown
    assert agent_run(acme, run_id, "b")["status_reason"].endswith("is false")
    assert "division by zero" in shown
    assert "division by zero" in agent_run(acme, run_id, "c")["error"]["message"]


def test_paused_run_says_by_whom(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    acme.browser().post(f"/admin/orchestrator/run/{run_id}/pause/")

    reason = document(acme, run_id, "metrics")["status_reason"]

    assert reason == f"Paused by {acme.owner.username}"
    assert reason in page(acme, run_id)


def test_sub_workflow_and_its_caller_lead_to_each_other(acme: World) -> None:
    published(acme, {"say": echo(value="hello")})
    run_id = start(acme, {"sub": {"workflow": "check"}})
    drain(acme, run_id)
    child = child_of(acme, run_id)

    assert f"/admin/orchestrator/run/{child.id}/change/" in page(acme, run_id, "?step=sub")
    assert f"/admin/orchestrator/run/{run_id}/change/?step=sub" in page(acme, child.id)


def test_map_and_loop_sum_up_what_they_stand_for(acme: World) -> None:
    each = {**echo(value="${item}"), "map": {"over": "${input.list}"}}
    loop = {"steps": {"say": echo(value=1)}, "until": "loop.round == 3", "max_rounds": 5}
    run_id = start(acme, {"each": each, "again": {"loop": loop}}, given={"list": [0] * 1200})
    drain(acme, run_id)

    shown = page(acme, run_id, "?step=each")

    assert "<dt>Agent runs in it</dt><dd>1,200 completed</dd>" in shown
    assert "completed: 1,200 of 1,200 items" in shown.replace("#58;", ":")
    assert "All 1,205" in shown
    assert "<dt>Rounds</dt><dd>3</dd>" in page(acme, run_id, "?step=again")
