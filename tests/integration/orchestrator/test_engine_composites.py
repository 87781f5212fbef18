"""Steps that stand for others, as their run is cancelled and taken up again."""

import threading
from typing import Any

import pytest
from django.db import connection

from orchestrator.execution import engine_db
from orchestrator.models import Attempt
from orchestrator.services import advance as advancing
from orchestrator.services import children
from orchestrator.services.advance import advance
from orchestrator.services.control import cancel_run, retry_run
from orchestrator.services.sweep import sweep
from tests.e2e.stories import echo, start
from tests.engine_driver import drain, run_of, step_of
from tests.eventually import eventually
from tests.integration.orchestrator.test_engine import waiting_for_locks
from tests.integration.orchestrator.test_engine_calls import child_of, published
from tests.integration.orchestrator.test_engine_control import act
from tests.world import World

MAP = {**echo(value="${item}"), "map": {"over": "${input.list}"}}
LOOP = {"loop": {"steps": {"say": echo(value=1)}, "until": "true", "max_rounds": 2}}

# Its other step is at rest, and says nothing for an hour.
CALLING = {"it": {"workflow": "check"}, "pause": {"delay": "1h"}}
QUIET = """
UPDATE run SET created_at = created_at - interval '1 day',
               advance_wanted_at = advance_wanted_at - interval '1 day'
 WHERE id = %s RETURNING id
"""


def attempts(world: World, run_id: Any) -> list[tuple[int, str]]:
    agent_run = step_of(world, run_id, "it")
    with world.scope():
        tried = Attempt.objects.filter(agent_run=agent_run).order_by("number")
        return list(tried.values_list("number", "outcome"))


@pytest.mark.parametrize("step", [MAP, LOOP], ids=["map", "loop"])
def test_each_time_that_a_step_stood_for_others_is_an_attempt(
    acme: World, step: dict[str, Any]
) -> None:
    run_id = start(acme, {"it": step}, given={"list": [1, 2]})
    advance(acme.tenant.id, run_id)
    act(acme, run_id, cancel_run)
    drain(acme, run_id)

    act(acme, run_id, retry_run)
    run = drain(acme, run_id)

    assert run.status == "completed"
    assert attempts(acme, run_id) == [(1, "cancelled"), (2, "completed")]


def test_step_whose_workflow_is_cancelled_with_it_is_cancelled(acme: World) -> None:
    published(acme, {"say": echo(value=1)})
    run_id = start(acme, {"it": {"workflow": "check"}})
    drain(acme, run_id)
    child = child_of(acme, run_id, "it")

    act(acme, run_id, cancel_run)
    drain(acme, run_id)
    drain(acme, child.id)
    drain(acme, run_id)

    assert run_of(acme, run_id).status == "cancelled"
    assert step_of(acme, run_id, "it").status == "cancelled"
    assert step_of(acme, run_id, "it").error is None


def test_sweeper_starts_the_workflow_that_a_crash_has_left_out(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(acme, {"say": echo(value=1)})
    with monkeypatch.context() as crash:
        crash.setattr(advancing, "start_children", lambda *_: None)
        run_id = start(acme, CALLING, strategy="adaptive")
        drain(acme, run_id)
    engine_db.one(QUIET, run_id, alias="system")

    sweep()
    drain(acme, run_id)

    assert child_of(acme, run_id, "it").status == "pending"


def test_sweeper_tells_a_run_of_the_end_that_a_crash_has_kept_from_it(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(acme, {"say": echo(value=1)})
    run_id = start(acme, CALLING, strategy="adaptive")
    drain(acme, run_id)
    with monkeypatch.context() as crash:
        crash.setattr(advancing, "_reach_out", lambda _: None)
        drain(acme, child_of(acme, run_id, "it").id)
    engine_db.one(QUIET, run_id, alias="system")

    sweep()
    drain(acme, run_id)

    assert step_of(acme, run_id, "it").status == "completed"


def test_workflow_that_two_start_at_once_is_started_once(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(acme, {"say": echo(value=1)})
    with monkeypatch.context() as crash:
        crash.setattr(advancing, "start_children", lambda *_: None)
        run_id = start(acme, CALLING)
        drain(acme, run_id)
    broke: list[Exception] = []

    def also() -> None:
        try:
            children.start_children(acme.tenant.id, run_id)
        except Exception as error:
            broke.append(error)
        finally:
            connection.close()

    other = threading.Thread(target=also)
    with acme.scope():
        children.start_children(acme.tenant.id, run_id)
        other.start()
        eventually(lambda: waiting_for_locks() > 0)
    other.join(10)

    assert broke == []
    assert child_of(acme, run_id, "it").status == "pending"
