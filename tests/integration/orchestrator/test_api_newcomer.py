"""The first calls of someone who has nothing but a key."""

from tests.rest import YAML, get, made, post
from tests.world import World


def test_newcomer_defines_publishes_and_runs_a_workflow(acme: World) -> None:
    client = acme.client()
    made(post(client, "projects", {"slug": "first"}))

    draft = made(post(client, "workflows?project=first", YAML))
    version = post(client, f"workflows/{draft['id']}/publish")
    accepted = post(client, "runs", {"workflow": "greet", "input": {"name": "Ada"}})

    assert draft["project"]["slug"] == "first"
    assert version.status_code == 201
    assert version.json()["number"] == 1
    assert accepted.status_code == 202, accepted.content
    run = made(get(client, accepted.headers["Location"]))
    assert run["workflow"]["name"] == "greet"
    assert run["workflow"]["version"] == 1
    assert [step["name"] for step in run["steps"]] == ["hello", "both"]
    assert (run["status"], run["output"], run["cost_usd"]) == ("pending", None, "0")
    assert run["links"]["self"] == accepted.headers["Location"]
