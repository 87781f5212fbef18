"""Building blocks of stories: steps, runs, and how they ended."""

from typing import Any
from uuid import UUID

from orchestrator.models import AgentRun, Run
from orchestrator.services.runs import start_run
from orchestrator.services.workflows import publish_spec
from tests.eventually import eventually
from tests.world import World


def echo(needs: list[str] | None = None, **arguments: Any) -> dict[str, Any]:
    step: dict[str, Any] = {"agent": {"type": "tool", "tool": "echo"}, "arguments": arguments}
    return {**step, "needs": needs} if needs else step


def simulated(prompt: str, needs: list[str] | None = None, **parameters: Any) -> dict[str, Any]:
    step: dict[str, Any] = {
        "agent": {"type": "prompt", "provider": "simulated", "model": "sim"},
        "prompt": prompt,
        "parameters": {"seed": 7, **parameters},
    }
    return {**step, "needs": needs} if needs else step


def start(world: World, steps: dict[str, Any], *, given: Any = None, **header: Any) -> UUID:
    spec = {"muster": 1, "name": "story", "steps": steps, **header}
    with world.scope():
        version = publish_spec(project=world.project, spec=spec)
        return start_run(workflow=version.workflow, version=version, input=given or {}).id


def ended(world: World, run_id: UUID, *, within: float = 30.0) -> Run:
    def look() -> Run | None:
        with world.scope():
            run = Run.objects.get(id=run_id)
        return run if run.finished_at else None

    return eventually(look, within=within)


def statuses(world: World, run_id: UUID) -> dict[str, str]:
    with world.scope():
        return dict(AgentRun.objects.filter(run_id=run_id).values_list("step", "status"))
