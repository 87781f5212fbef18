"""Values that agents of a run share: versions, compare and swap, and waiting for a change."""

import threading
import time
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from agents_app.core.errors import ContextConflictError, ContextRefusedError
from orchestrator.execution import context_rows, engine_db
from orchestrator.execution.doorbell import Doorbell
from orchestrator.execution.errors import LeaseLostError, RunStoppingError
from orchestrator.models import ContextValue, RunTally
from orchestrator.services import control
from orchestrator.services.sweep import sweep
from tests.engine_driver import run_of
from tests.integration.orchestrator.test_engine_late_answers import EXPIRE
from tests.talk import Talker, take, talkers, working_run
from tests.world import World


def put(agent: Talker, key: str, value: Any, **given: Any) -> int:
    given.setdefault("call_id", uuid7())
    return agent.context.set(key, value, **given).version


def test_value_is_seen_by_all_agents_of_the_run(acme: World) -> None:
    a, b = talkers(acme, "a", "b")

    assert put(a, "topic", {"name": "tides"}) == 1

    found = b.context.get("topic")
    assert (found.version, found.value, found.writer) == (1, {"name": "tides"}, "a")
    assert b.context.get("nothing").version == 0


def test_private_value_is_seen_by_its_agent_alone(acme: World) -> None:
    a, b = talkers(acme, "a", "b")

    put(a, "mood", "mine", is_private=True)
    put(b, "mood", "for all")

    assert a.context.get("mood", is_private=True).value == "mine"
    assert b.context.get("mood", is_private=True).version == 0
    assert a.context.get("mood").value == "for all"


def test_versions_are_kept_the_newest_first(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_rows, "KEPT_VERSIONS", 3)
    (a,) = talkers(acme, "a")

    for number in range(5):
        put(a, "n", number)

    assert [(v.version, v.value) for v in a.context.history("n")] == [(5, 4), (4, 3), (3, 2)]
    with acme.scope():
        assert RunTally.objects.get(run_id=a.claim.run_id).context_versions == 3


def test_swap_needs_the_version_that_it_expects(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    put(a, "n", 1, expected_version=0)

    with pytest.raises(ContextConflictError, match="at version 1, not at 0"):
        put(b, "n", 2, expected_version=0)

    assert put(b, "n", 2, expected_version=1) == 2


def test_one_of_many_threads_wins_each_swap(acme: World) -> None:
    names = [f"t{number}" for number in range(8)]
    agents = talkers(acme, *names)

    def count_up(agent: Talker) -> None:
        done = 0
        while done < 5:
            seen = agent.context.get("n")
            try:
                put(agent, "n", (seen.value or 0) + 1, expected_version=seen.version)
            except ContextConflictError:
                continue
            done += 1

    threads = [threading.Thread(target=count_up, args=(agent,)) for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    last = agents[0].context.get("n")
    assert (last.version, last.value) == (40, 40)


def test_call_that_is_made_again_writes_once(acme: World) -> None:
    run_id = working_run(acme, "a")
    a = Talker(take(acme, run_id, "a"))
    call = uuid7()
    put(a, "n", 1, call_id=call, expected_version=0)
    put(a, "n", 2)
    engine_db.one(EXPIRE, a.claim.agent_run_id, alias="system")
    sweep()

    again = Talker(take(acme, run_id, "a"))

    assert put(again, "n", 1, call_id=call, expected_version=0) == 1
    assert again.context.get("n").version == 2
    with pytest.raises(LeaseLostError):
        put(a, "n", 3)


def test_run_that_is_to_end_takes_no_more_values(acme: World) -> None:
    (a,) = talkers(acme, "a")
    run = run_of(acme, a.claim.run_id)
    with acme.scope():
        control.cancel_run(run)

    with pytest.raises(RunStoppingError):
        put(a, "n", 1)


@pytest.mark.parametrize(
    ("key", "value"), [("", 1), ("k" * 201, 1), ("\x00", 1), ("k", "x" * 65_536)]
)
def test_value_that_cannot_be_kept_is_refused(acme: World, key: str, value: Any) -> None:
    (a,) = talkers(acme, "a")

    with pytest.raises(ContextRefusedError):
        put(a, key, value)


def test_run_keeps_so_many_values(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_rows, "MAX_VERSIONS", 3)
    monkeypatch.setattr(context_rows, "KEPT_VERSIONS", 2)
    (a,) = talkers(acme, "a")
    for number in range(4):
        put(a, "n", number)
    put(a, "m", 0)

    with pytest.raises(ContextRefusedError) as refusal:
        put(a, "one too many", 0)

    assert refusal.value.reason == "context_full"
    assert put(a, "n", 4) == 5


def test_run_keeps_so_many_bytes(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_rows, "MAX_BYTES", 10)
    (a,) = talkers(acme, "a")
    put(a, "n", "12345678")

    with pytest.raises(ContextRefusedError):
        put(a, "m", "1")


def test_wait_ends_as_the_value_changes(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    version = put(a, "n", 1)
    later = threading.Timer(0.2, put, args=(a, "n", 2))
    later.start()
    began = time.monotonic()

    found = b.context.wait("n", newer_than=version, seconds=20)

    assert (found.version, found.value) == (2, 2)
    assert time.monotonic() - began < 5
    later.join()


def test_wait_gives_what_there_is_when_its_time_is_over(acme: World) -> None:
    (a,) = talkers(acme, "a")
    put(a, "n", 1)

    assert a.context.wait("n", newer_than=0, seconds=20).version == 1
    assert a.context.wait("n", newer_than=1, seconds=0.1).version == 1


def test_change_whose_ring_was_lost_is_found(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = talkers(acme, "a", "b")
    monkeypatch.setattr(Doorbell, "ring", lambda *_: None)
    later = threading.Timer(0.1, put, args=(a, "n", 1))
    later.start()

    assert b.context.wait("n", newer_than=0, seconds=20).value == 1
    later.join()


def test_nothing_is_shared_with_another_run_or_tenant(acme: World, globex: World) -> None:
    a = talkers(acme, "a")[0]
    other_run = talkers(acme, "a")[0]
    stranger = talkers(globex, "a")[0]

    put(a, "secret", 1)

    assert other_run.context.get("secret").version == 0
    assert stranger.context.get("secret").version == 0
    with globex.scope():
        assert not ContextValue.objects.exists()
