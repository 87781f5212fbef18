"""Runs whose workers are killed, one after another, at chosen moments."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

from costs.models import CostEntry
from orchestrator.models import LlmCall, Run, ToolCall
from tests import workers
from tests.e2e.stories import ended
from tests.eventually import eventually
from tests.world import World

QUICK = {"MUSTER_LEASE_SECONDS": "3", "MUSTER_SWEEP_SECONDS": "0.5"}


def outlived(
    world: World, run_id: UUID, log_dir: Path, *, deaths: Sequence[Callable[[], bool]]
) -> Run:
    """How the run ends if its only worker is killed as soon as each of these has come true."""
    with workers.control("control-d", log_dir, **QUICK):
        for number, has_come in enumerate(deaths, start=1):
            with workers.agents(f"victim-{number}", log_dir, **QUICK) as victim:
                eventually(has_come)
                victim.kill()
        with workers.agents("heir", log_dir, **QUICK):
            return ended(world, run_id)


def answered_turns(world: World, run: Run) -> dict[str, list[int]]:
    """The turns that were answered, by step. None was asked again, and each call is in the ledger.

    A call that died with its worker is in doubt; it is charged too, and made once more.
    """
    with world.scope():
        calls = list(LlmCall.objects.filter(run=run).select_related("agent_run"))
        entries = Counter(CostEntry.objects.filter(run_id=run.id).values_list("call_id", flat=True))
    found: dict[str, list[int]] = {}
    for call in sorted(calls, key=lambda each: each.created_at):
        turns = found.setdefault(call.agent_run.step, [])
        assert call.turn not in turns, f"{call.agent_run.step}: {call.turn} was answered before"
        assert call.status in ("closed", "in_doubt")
        if call.status == "closed":
            turns.append(call.turn)
    assert entries == Counter(call.id for call in calls)
    return found


def finished_tools(world: World, run: Run) -> int:
    """How many calls of tools have their result, each of them once."""
    with world.scope():
        finished = ToolCall.objects.filter(run=run, status="finished")
        distinct = finished.values("agent_run", "turn", "call").distinct().count()
        assert distinct == finished.count()
    return distinct
