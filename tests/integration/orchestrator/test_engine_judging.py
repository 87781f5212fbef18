"""Agents that judge and choose, and answers that are repaired, against the real database."""

import json
from typing import Any

import pytest

from agents_app.core.model import FinishReason, ModelReply, ModelRequest
from costs.core.usage import Usage
from orchestrator.execution import gateway
from orchestrator.execution.providers import TenantClient
from orchestrator.models import LlmCall
from tests.e2e.stories import echo, start, statuses
from tests.engine_driver import drain, step_of
from tests.world import World

MODEL = {"provider": "simulated", "model": "sim"}


class Careful:
    """Writes what it is told to, and accepts only what was improved by its advice."""

    def complete(self, request: ModelRequest) -> ModelReply:
        asked = request.messages[-1].content
        text = f"A text. {asked}"
        if request.output_schema is not None:
            is_better = "Be brief." in asked
            verdict = {"score": 0.9 if is_better else 0.2, "accepted": is_better}
            said = {"feedback": "Be brief.", **verdict}
            text = json.dumps({name: said[name] for name in request.output_schema["properties"]})
        return ModelReply(
            text=text,
            finish_reason=FinishReason.STOP,
            usage=Usage(input_tokens=10, output_tokens=5),
            provider=request.provider,
            model=request.model,
        )


@pytest.fixture
def careful(monkeypatch: pytest.MonkeyPatch) -> None:
    client = TenantClient(client=Careful())
    monkeypatch.setattr(gateway, "client_for_tenant", lambda *_, **__: client)


def polishing(**judge: Any) -> dict[str, Any]:
    write = {
        "agent": {"type": "prompt", **MODEL},
        "prompt": "Improve. Advice: ${loop.previous.judge.output.feedback ?? 'none'}",
    }
    evaluator = {"type": "evaluator", **MODEL, **judge}
    return {
        "loop": {
            "steps": {"write": write, "judge": {"needs": ["write"], "agent": evaluator}},
            "until": "steps.judge.output.accepted",
            "max_rounds": 3,
            "on_exhausted": "fail",
            "output": "${steps.judge.output}",
        }
    }


@pytest.mark.parametrize("judge", [{}, {"threshold": 0.9, "criteria": "It is brief."}])
def test_evaluator_sends_work_back_until_it_is_good(
    acme: World, careful: None, judge: dict[str, Any]
) -> None:
    run = drain(acme, start(acme, {"polish": polishing(**judge)}))

    assert (run.status, run.output) == (
        "completed",
        {"accepted": True, "score": 0.9, "feedback": "Be brief."},
    )
    judged = step_of(acme, run.id, "polish[1].judge")
    assert (judged.status, judged.role) == ("completed", "reviewer")


def test_threshold_that_is_never_reached_fails_the_loop(acme: World, careful: None) -> None:
    run = drain(acme, start(acme, {"polish": polishing(threshold=0.95)}))

    assert run.status == "failed"


def routed(**parameters: Any) -> dict[str, Any]:
    """A router with two branches behind it."""
    router = {"type": "router", "routes": ["polish_it", "ship_it"], **MODEL}
    return {
        "draft": echo(value="A draft."),
        "triage": {"needs": ["draft"], "agent": router, "parameters": parameters},
        "polish": {
            **echo(value="polished", needs=["triage"]),
            "when": 'steps.triage.output.route == "polish_it"',
        },
        "ship": {
            **echo(value="shipped", needs=["triage"]),
            "when": 'steps.triage.output.route == "ship_it"',
        },
    }


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_router_chooses_the_branch(acme: World, strategy: str) -> None:
    run_id = start(acme, routed(output={"route": "ship_it"}), strategy=strategy)

    assert drain(acme, run_id).status == "completed"
    assert statuses(acme, run_id) == {
        "draft": "completed",
        "triage": "completed",
        "polish": "skipped",
        "ship": "completed",
    }


def test_route_that_does_not_exist_is_repaired(acme: World) -> None:
    says = ["drop_it", '{"route": "drop_it"}', '{"route": "ship_it"}']
    script = [{"text": text} for text in says]
    run_id = start(acme, routed(script=script))

    assert drain(acme, run_id).status == "completed"
    assert step_of(acme, run_id, "triage").output == {"route": "ship_it"}
    with acme.scope():
        assert LlmCall.objects.filter(run_id=run_id, status="closed").count() == 3


def test_route_that_never_exists_fails_the_step(acme: World) -> None:
    run_id = start(acme, routed(output={"route": "drop_it"}))

    assert drain(acme, run_id).status == "failed"
    error = step_of(acme, run_id, "triage").error
    assert error["code"] == "output_invalid"
    assert "polish_it" in error["message"]
