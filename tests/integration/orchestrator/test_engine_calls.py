"""Sub-workflows, against the real database."""

from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.models import Run
from orchestrator.services import children
from orchestrator.services.advance import advance
from orchestrator.services.control import cancel_run, pause_run, resume_run, retry_run
from orchestrator.services.workflows import publish_spec
from tests.e2e.stories import echo, start
from tests.engine_driver import drain, run_of, step_of
from tests.integration.orchestrator.test_engine_control import act
from tests.integration.orchestrator.test_engine_strategies import broken
from tests.world import World

STRATEGIES = pytest.mark.parametrize("strategy", ["levels", "adaptive"])
CHECKED = {
    "inputs": {
        "type": "object",
        "required": ["text"],
        "properties": {"text": {"type": "string"}, "tone": {"default": "dry"}},
    },
    "output": {"said": "${steps.say.output}", "tone": "${input.tone}"},
}


def published(world: World, steps: dict[str, Any], *, name: str = "check", **header: Any) -> None:
    with world.scope():
        publish_spec(
            project=world.project, spec={"muster": 1, "name": name, "steps": steps, **header}
        )


def child_of(world: World, run_id: UUID, step: str = "sub") -> Run:
    with world.scope():
        return Run.objects.get(parent_agent_run_id=step_of(world, run_id, step).id)


def calling(**fields: Any) -> dict[str, Any]:
    return {"workflow": "check", "input": {"text": "${steps.a.output}"}, "needs": ["a"], **fields}


@STRATEGIES
def test_step_gives_what_its_workflow_gives(acme: World, strategy: str) -> None:
    published(acme, {"say": echo(value="${input.text}")}, **CHECKED)
    steps = {
        "a": echo(value="hello"),
        "sub": calling(),
        "end": echo(value="${steps.sub.output}", needs=["sub"]),
    }
    run_id = start(acme, steps, strategy=strategy)

    drain(acme, run_id)
    drain(acme, child_of(acme, run_id).id)
    run = drain(acme, run_id)

    assert (run.status, run.status_reason) == ("completed", "3 of 3 steps completed")
    assert run.output == {"said": "hello", "tone": "dry"}


def test_version_is_pinned_when_the_caller_is_published(acme: World) -> None:
    published(acme, {"say": echo(value=1)})
    run_id = start(acme, {"sub": {"workflow": "check"}})
    published(acme, {"say": echo(value=2)})

    drain(acme, run_id)

    assert drain(acme, child_of(acme, run_id).id).output == 1


def test_failed_workflow_fails_its_step_with_the_reason(acme: World) -> None:
    published(acme, {"say": broken()})
    run_id = start(acme, {"sub": {"workflow": "check"}})

    drain(acme, run_id)
    drain(acme, child_of(acme, run_id).id)
    run = drain(acme, run_id)

    assert run.status == "failed"
    assert "Its run ended failed: `say` failed" in run.status_reason


def test_input_that_does_not_fit_fails_the_step(acme: World) -> None:
    published(acme, {"say": echo(value=1)}, inputs=CHECKED["inputs"])
    run_id = start(acme, {"a": echo(value=7), "sub": calling()})

    run = drain(acme, run_id)

    assert run.status == "failed"
    assert "text" in step_of(acme, run_id, "sub").status_reason


@STRATEGIES
def test_cancelled_run_takes_its_workflows_with_it(acme: World, strategy: str) -> None:
    published(acme, {"say": echo(value=1)})
    run_id = start(acme, {"sub": {"workflow": "check"}}, strategy=strategy)
    drain(acme, run_id)
    child = child_of(acme, run_id)
    advance(acme.tenant.id, child.id)

    act(acme, run_id, cancel_run)
    advance(acme.tenant.id, run_id)
    assert run_of(acme, run_id).status == "running"
    assert drain(acme, child.id).status == "cancelled"

    assert drain(acme, run_id).status == "cancelled"


def test_retried_run_takes_its_failed_workflow_up_again(acme: World) -> None:
    published(acme, {"good": echo(value=1), "bad": broken(needs=["good"])})
    run_id = start(acme, {"sub": {"workflow": "check"}})
    drain(acme, run_id)
    child = child_of(acme, run_id)
    drain(acme, child.id)
    assert drain(acme, run_id).status == "failed"

    act(acme, run_id, retry_run)
    drain(acme, run_id)
    drain(acme, child.id)

    assert step_of(acme, child.id, "good").attempt == 1
    assert step_of(acme, child.id, "bad").attempt == 2
    assert drain(acme, run_id).status == "failed"


def test_run_that_was_not_started_after_a_crash_is_started_by_the_next_advance(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(acme, {"say": echo(value=1)})
    run_id = start(acme, {"sub": {"workflow": "check"}})
    monkeypatch.setattr("orchestrator.services.advance.start_children", lambda *_: None)
    drain(acme, run_id)
    monkeypatch.undo()

    advance(acme.tenant.id, run_id)
    advance(acme.tenant.id, run_id)

    assert child_of(acme, run_id).status == "pending"


def test_workflows_that_nest_too_deep_fail_with_the_reason(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "MAX_DEPTH", 0)
    published(acme, {"say": echo(value=1)})
    run_id = start(acme, {"sub": {"workflow": "check"}})

    run = drain(acme, run_id)

    assert "nest deeper than 0" in run.status_reason


def test_workflow_of_another_project_cannot_be_called(acme: World, globex: World) -> None:
    published(globex, {"say": echo(value=1)})

    with pytest.raises(WorkflowInvalidError):
        start(acme, {"sub": {"workflow": "check"}})


def test_paused_run_pauses_its_workflows_until_it_is_resumed(acme: World) -> None:
    published(acme, {"say": echo(value=1)})
    run_id = start(acme, {"sub": {"workflow": "check"}})
    drain(acme, run_id)
    child = child_of(acme, run_id)

    act(acme, run_id, pause_run)
    assert drain(acme, child.id).status == "paused"

    act(acme, run_id, resume_run)
    assert drain(acme, child.id).status == "completed"
    assert drain(acme, run_id).status == "completed"
