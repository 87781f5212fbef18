"""Drives runs through the engine in this process: what workers and the control worker would do."""

from uuid import UUID

from uuid_utils.compat import uuid7

from orchestrator.core.limits import CallFacts
from orchestrator.limits import limits
from orchestrator.models import AgentRun, Run
from orchestrator.services import agent_runs
from orchestrator.services.advance import advance
from tests.eventually import eventually
from tests.world import World

MOST_PASSES = 200


def open_limiter() -> None:
    """Have the limiter know what is under way: after its server has started, it waits for that."""
    eventually(lambda: limits().admit(_facts()).granted)


def _facts() -> CallFacts:
    call_id = uuid7()
    return CallFacts(
        call_id=call_id,
        waiter=str(call_id),
        tenant_id=call_id,
        weight=1,
        project_id=call_id,
        workflow_id=call_id,
        agent="",
        provider="none",
        model="none",
        credential_id=None,
        amounts={},
        hold_nano=0,
        budgets=(),
    )


def run_of(world: World, run_id: UUID) -> Run:
    with world.scope():
        return Run.objects.get(id=run_id)


def step_of(world: World, run_id: UUID, name: str) -> AgentRun:
    with world.scope():
        return AgentRun.objects.get(run_id=run_id, step=name)


def queued(world: World, run_id: UUID) -> list[AgentRun]:
    with world.scope():
        return list(AgentRun.objects.filter(run_id=run_id, status="queued").order_by("position"))


def drain(world: World, run_id: UUID) -> Run:
    """Execute whatever is queued, and advance when somebody asks, until nothing moves."""
    for _ in range(MOST_PASSES):
        due = queued(world, run_id)
        for agent_run in due:
            agent_runs.execute(world.tenant.id, agent_run.id, worker="w1")
        run = run_of(world, run_id)
        # What the chord of a level publishes in the end.
        is_chord = any(agent_run.in_chord for agent_run in due)
        if run.advance_wanted or is_chord or run.status == "pending":
            advance(world.tenant.id, run_id)
        elif not due:
            return run
    raise AssertionError("the run does not come to rest")


def drain_all(world: World, run_id: UUID) -> Run:
    """The same for a run and those that its steps stand for, until it has ended."""
    for _ in range(MOST_PASSES):
        run = drain(world, run_id)
        if run.finished_at:
            return run
        for child in live_children(world, run_id):
            drain_all(world, child)
    raise AssertionError("the run does not come to an end")


def live_children(world: World, run_id: UUID) -> list[UUID]:
    with world.scope():
        steps = AgentRun.objects.filter(run_id=run_id).values("id")
        live = Run.objects.filter(parent_agent_run_id__in=steps, finished_at=None)
        return list(live.order_by("id").values_list("id", flat=True))
