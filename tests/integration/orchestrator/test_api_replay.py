"""Replay over REST: what is asked, what is told."""

from typing import Any
from uuid import UUID

from django.http import HttpResponse

from orchestrator.models import Run
from tests.e2e.stories import start
from tests.engine_driver import drain, run_of
from tests.integration.orchestrator.test_api_run_control import suspend
from tests.integration.orchestrator.test_replay import acme, chain, ended
from tests.rest import get, made, post, problems
from tests.world import World

__all__ = ["acme"]


def replay(world: World, run_id: object, **body: Any) -> HttpResponse:
    return post(world.client(), f"runs/{run_id}/replay", body)


def test_replay_is_a_new_run_that_tells_what_it_reused(acme: World) -> None:
    old = ended(acme, chain())

    answer = replay(acme, old, from_step="c", overrides={"c": {"prompt": "Other"}})

    assert answer.status_code == 202
    new = answer.json()
    assert answer.headers["Location"].endswith(f"/runs/{new['id']}")
    assert new["id"] != new["replay_of"] == str(old)
    assert new["links"]["replay_of"].endswith(f"/api/v1/runs/{old}")
    run = made(get(acme.client(), f"runs/{new['id']}"))
    saved = run["saved_usd"]
    assert float(saved) > 0
    assert run["replay"] == {
        "of": str(old),
        "from_step": "c",
        "overrides": {"c": {"prompt": "Other"}},
        "reused": ["a", "b"],
        "saved_usd": saved,
    }
    rows = made(get(acme.client(), f"runs/{new['id']}/agent-runs"))["results"]
    assert [bool(row["reused_from"]) for row in rows] == [True, True, False, False]
    assert {row["cost_usd"] for row in rows} == {"0"}


def test_events_tell_money_in_usd(acme: World) -> None:
    new = made(replay(acme, ended(acme, chain()), from_step="c"))["id"]

    events = made(get(acme.client(), f"runs/{new}/events"))["results"]

    told = {event["type"]: event["data"] for event in events}
    assert list(told) == ["run.created", "run.replayed", "agent.reused"]
    assert told["run.replayed"]["saved_usd"] == run_usd(acme, new)
    assert not [key for data in told.values() for key in data if key.endswith("_nano")]


def run_usd(world: World, run_id: str) -> str:
    return made(get(world.client(), f"runs/{run_id}"))["saved_usd"]


def test_metrics_and_costs_of_a_replay_are_its_own(acme: World) -> None:
    new = made(replay(acme, ended(acme, chain()), from_step="c"))["id"]
    run = drain(acme, UUID(new))

    lines = made(get(acme.client(), f"runs/{new}/costs"))["results"]
    metrics = made(get(acme.client(), f"runs/{new}/metrics"))

    assert [line["step"] for line in lines] == ["c"]
    assert [task["llm_calls"] for task in metrics["tasks"]] == [0, 0, 1, 0]
    assert run.status == "completed"


def test_run_that_goes_on_is_not_replayed(acme: World) -> None:
    run_id = start(acme, chain(), given={"topic": "x", "tone": "y"})

    answer = replay(acme, run_id, from_step="c")

    assert (answer.status_code, answer.json()["code"]) == (409, "run_state")
    assert answer.json()["detail"] == "A run that is pending cannot be replayed."


def test_problems_have_their_places(acme: World) -> None:
    old = ended(acme, chain())

    answer = replay(acme, old, from_step="x", overrides={"c": {"provider": "nobody"}})

    assert problems(answer) == {
        ("/from_step", "unknown_step"),
        ("/overrides/c/provider", "unknown_provider"),
    }
    assert problems(replay(acme, old)) == {("/from_step", "required")}
    assert problems(replay(acme, old, from_step=3)) == {("/from_step", "invalid")}
    found = problems(replay(acme, old, from_step="c", overrides=[], more=1))
    assert found == {("/overrides", "not_a_dict"), ("/more", "unknown_field")}


def test_hostile_overrides_are_refused(acme: World) -> None:
    old = ended(acme, chain())
    deep: Any = 1
    for _ in range(200):
        deep = {"a": deep}

    for bad in ({"parameters": deep}, {"prompt": "\ud800"}, {"prompt": "x" * 300_000}, None, [1]):
        assert replay(acme, old, from_step="c", overrides={"c": bad}).status_code == 400
    assert replay(acme, old, from_step="c", overrides={"a/b~c": {}}).status_code == 400


def test_suspended_tenant_replays_nothing(acme: World) -> None:
    old, client = ended(acme, chain()), acme.client()
    suspend(acme)

    answer = post(client, f"runs/{old}/replay", {"from_step": "c"})

    assert (answer.status_code, answer.json()["code"]) == (403, "tenant_suspended")


def test_repeat_with_its_key_starts_no_second_run(acme: World) -> None:
    old, client = ended(acme, chain()), acme.client()

    answers = [
        post(client, f"runs/{old}/replay", {"from_step": "c"}, idempotency_key="r-1")
        for _ in range(2)
    ]

    assert len({answer.json()["id"] for answer in answers}) == 1
    with acme.scope():
        assert Run.objects.filter(replay_of=old).count() == 1


def test_replay_outlives_the_run_that_it_reuses(acme: World) -> None:
    old = ended(acme, chain())
    new = made(replay(acme, old, from_step="c"))["id"]

    with acme.scope():
        Run.objects.filter(id=old)._raw_delete("default")

    assert run_of(acme, UUID(new)).replay_of_id is None
    told = made(get(acme.client(), f"runs/{new}"))
    assert (told["replay"]["of"], told["links"]["replay_of"]) == (None, None)
