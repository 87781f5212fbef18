"""Workers die under a planner and those it hands tasks to: nothing is thought or done twice."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from agents_app.services.agents import create_agent
from orchestrator.models import AgentRun, LlmCall, Run
from orchestrator.selectors.plans import RunPlan, plans_of
from tests.e2e.deaths import answered_turns, finished_tools, outlived
from tests.e2e.stories import start, statuses
from tests.world import World

MODEL = {"provider": "simulated", "model": "sim"}
THINKS_SECONDS = 0.5
PLAN = {
    "tasks": [
        {"id": "survey", "title": "Survey the hill", "task": "Survey it.", "agent": "surveyor"},
        {"id": "weigh", "title": "Weigh the gold", "task": "Weigh it.", "agent": "weigher"},
    ]
}
ANSWER = "There are 42 ounces in the hill."
# Of the surveyor, who has somebody dig.
DIGGER = "a.1.survey.1.digger"


def saying(*turns: dict[str, Any]) -> dict[str, Any]:
    return {"script": list(turns), "latency": THINKS_SECONDS}


def calling(tool: str, **arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"name": tool, "arguments": arguments}]}


@pytest.fixture
def team(acme: World) -> None:
    asks = saying(calling("delegate", agent="digger", task="Dig."), {"text": "It is hilly."})
    weighs = saying(calling("calculator", expression="6 * 7"), {"text": "42 ounces."})
    with acme.scope():
        create_agent(
            slug="digger", type="prompt", **MODEL, parameters=saying({"text": "Here is gold."})
        )
        create_agent(
            slug="surveyor",
            type="react",
            **MODEL,
            parameters=asks,
            settings={"delegates": ["digger"]},
        )
        create_agent(slug="weigher", type="react", **MODEL, tools=["calculator"], parameters=weighs)


def thinks(world: World, run_id: UUID, step: str) -> bool:
    with world.scope():
        return LlmCall.objects.filter(run_id=run_id, agent_run__step=step, status="open").exists()


def has_answers_of_all(world: World, run_id: UUID) -> bool:
    """The tasks have ended, and the planner has not gone on with them."""
    with world.scope():
        done = AgentRun.objects.filter(run_id=run_id, step__regex=r"^a\.1\.\w+$")
        return [*done.values_list("status", flat=True)] == ["completed"] * 2


def plan_of(world: World, run: Run) -> RunPlan:
    with world.scope():
        return RunPlan(rounds=plans_of(run))


@pytest.mark.usefixtures("live_db", "team")
def test_plan_is_made_and_carried_out_once_while_workers_are_killed(
    acme: World, log_dir: Path
) -> None:
    agent = {"type": "planner", **MODEL, "delegates": ["surveyor", "weigher"], "report": True}
    says = saying({"text": json.dumps(PLAN)}, {"text": json.dumps({"tasks": [], "answer": ANSWER})})
    run_id = start(acme, {"a": {"agent": agent, "prompt": "Find gold.", "parameters": says}})

    run = outlived(
        acme,
        run_id,
        log_dir,
        deaths=[
            lambda: thinks(acme, run_id, "a"),
            lambda: thinks(acme, run_id, DIGGER),
            lambda: has_answers_of_all(acme, run_id),
        ],
    )

    assert run.status == "completed"
    assert run.output["answer"] == ANSWER
    assert [(task["status"], task["result"]) for task in run.output["tasks"]] == [
        ("completed", "It is hilly."),
        ("completed", "42 ounces."),
    ]
    assert answered_turns(acme, run) == {
        "a": [1, 2],
        "a.1.survey": [1, 2],
        "a.1.weigh": [1, 2],
        DIGGER: [1],
    }
    # The plan, the delegation and the calculation.
    assert finished_tools(acme, run) == 3
    assert {*statuses(acme, run_id).values()} == {"completed"}
    assert len(statuses(acme, run_id)) == 6
    plan = plan_of(acme, run)
    assert [task["status"] for task in plan.rounds[0].tasks] == ["completed"] * 2
    assert (len(plan.rounds), plan.progress) == (1, {"done": 2, "total": 2, "percent": 100})
