"""Nothing that can go on waits for the sweeper, and nothing asks for `advance` without end."""

from datetime import timedelta
from uuid import UUID

import pytest

from orchestrator.execution.claims import Claim, claim
from orchestrator.execution.leases import Lease
from orchestrator.services import agent_runs
from orchestrator.services.advance import advance
from orchestrator.services.control import cancel_run, retry_run
from tests.e2e.stories import echo, start, statuses
from tests.engine_driver import drain, queued, run_of, step_of
from tests.integration.orchestrator.test_engine_control import act
from tests.integration.orchestrator.test_engine_strategies import broken, execute
from tests.world import World

LEASE = timedelta(seconds=30)


def begin(world: World, run_id: UUID, step: str) -> Claim:
    taken = claim(world.tenant.id, step_of(world, run_id, step).id, worker="w1", lease=LEASE)
    assert taken
    return taken


def end(taken: Claim) -> None:
    lease = Lease(taken.agent_run_id, taken.attempt)
    agent_runs._finish(taken, agent_runs._Result(output="x"), lease)


@pytest.mark.parametrize("most", [None, 2])
def test_what_goes_on_in_a_run_that_fails_fast_asks_for_its_end(
    acme: World, most: int | None
) -> None:
    steps = {
        "bad": broken(),
        "slow": echo(value=1),
        "later": echo(value=2),
        "meet": echo(value=3, needs=["slow", "later"]),
    }
    limits = {"max_parallel": most} if most else {}
    run_id = start(acme, steps, strategy="adaptive", **limits)
    advance(acme.tenant.id, run_id)
    slow = begin(acme, run_id, "slow")
    execute(acme, run_id, "bad")
    advance(acme.tenant.id, run_id)
    assert statuses(acme, run_id)["later"] == "cancelled"

    end(slow)

    assert run_of(acme, run_id).advance_wanted
    assert drain(acme, run_id).status == "failed"


def test_what_goes_on_in_a_cancelled_run_asks_for_its_end(acme: World) -> None:
    steps = {"slow": echo(value=1), "end": echo(value=2, needs=["slow"])}
    run_id = start(acme, steps, strategy="adaptive")
    advance(acme.tenant.id, run_id)
    slow = begin(acme, run_id, "slow")
    act(acme, run_id, cancel_run)
    advance(acme.tenant.id, run_id)

    end(slow)

    assert run_of(acme, run_id).advance_wanted
    assert drain(acme, run_id).status == "cancelled"


def test_run_with_a_window_in_which_only_a_delay_is_left_does_not_ask_for_advance(
    acme: World,
) -> None:
    steps = {"pause": {"delay": "1h"}, "a": echo(value=1), "b": echo(value=2)}
    run_id = start(acme, steps, strategy="adaptive", max_parallel=1)

    drain(acme, run_id)
    advance(acme.tenant.id, run_id)

    assert not run_of(acme, run_id).advance_wanted
    assert statuses(acme, run_id) == {"pause": "waiting", "a": "completed", "b": "completed"}


def test_retried_adaptive_run_keeps_to_its_window(acme: World) -> None:
    steps = {"a": echo(value=1), "b": echo(value=2), "c": echo(value=3)}
    run_id = start(acme, steps, strategy="adaptive", max_parallel=1)
    advance(acme.tenant.id, run_id)
    act(acme, run_id, cancel_run)
    advance(acme.tenant.id, run_id)

    act(acme, run_id, retry_run)
    advance(acme.tenant.id, run_id)

    assert len(queued(acme, run_id)) == 1
    assert drain(acme, run_id).status == "completed"
