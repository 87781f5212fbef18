"""What agents told each other and share, over HTTP and on the run's page."""

from typing import Any

import pytest
from django.urls import reverse
from uuid_utils.compat import uuid7

from agents_app.core.todos import TodoDraft, TodoStatus
from tests.talk import Talker, talkers
from tests.world import World

LISTS = ("messages", "context", "todos")


def address(agent: Talker, name: str) -> str:
    return f"/api/v1/runs/{agent.claim.run_id}/{name}"


def put(agent: Talker, key: str, value: Any, *, is_private: bool = False) -> None:
    agent.context.set(key, value, call_id=uuid7(), is_private=is_private)


def test_messages_are_listed_in_their_order_page_by_page(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    a.send({"n": 1}, to="b", type="fact", priority=9)
    a.send(2, topic="news")
    b.send(3)
    client = acme.client("runs:read")

    first = client.get(address(a, "messages"), {"limit": 2}).json()
    rest = client.get(first["next"]).json()

    fact, news = first["results"]
    assert (fact["number"], fact["sender"], fact["receiver"]) == (1, "a", "b")
    assert (fact["type"], fact["priority"], fact["content"]) == ("fact", 9, {"n": 1})
    assert (news["receiver"], news["topic"]) == (None, "news")
    assert [message["content"] for message in rest["results"]] == [3]
    assert rest["next"] is None


def test_context_shows_what_holds_and_one_key_with_its_versions(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    for number in range(3):
        put(a, "n", number)
    put(b, "n", "mine", is_private=True)
    client = acme.client("runs:read")

    now = client.get(address(a, "context")).json()["results"]
    before = client.get(address(a, "context"), {"key": "n"}).json()["results"]

    assert [(v["value"], v["version"], v["writer"]) for v in now] == [("mine", 1, "b"), (2, 3, "a")]
    assert [v["private_to"] for v in now] == [str(b.claim.agent_run_id), None]
    assert [v["value"] for v in before] == ["mine", 2, 1, 0]


def test_todos_are_listed(acme: World) -> None:
    (a,) = talkers(acme, "a")
    a.todos.create(TodoDraft(text="buy milk", priority=7), call_id=uuid7())
    a.todos.update(1, TodoDraft(status=TodoStatus.COMPLETED), call_id=uuid7())

    (todo,) = acme.client("runs:read").get(address(a, "todos")).json()["results"]

    assert (todo["id"], todo["text"], todo["priority"]) == (1, "buy milk", 7)
    assert (todo["status"], todo["completed"], todo["needs"]) == ("completed", True, [])


@pytest.mark.parametrize("name", LISTS)
def test_nobody_else_sees_them(acme: World, globex: World, name: str) -> None:
    a, _ = talkers(acme, "a", "b")
    a.send("secret", to="b")

    assert globex.client().get(address(a, name)).status_code == 404
    assert acme.client("workflows:read").get(address(a, name)).status_code == 403


@pytest.mark.parametrize("name", LISTS)
def test_unknown_parameter_is_refused(acme: World, name: str) -> None:
    (a,) = talkers(acme, "a")

    assert acme.client().get(address(a, name), {"colour": "red"}).status_code == 400


def test_metrics_count_messages(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    a.send(1, to="b")
    a.send(2)
    b.read()

    tasks = acme.client().get(address(a, "metrics")).json()["tasks"]

    assert {task["name"]: task["messages"] for task in tasks} == {
        "a": {"sent": 2, "read": 0},
        "b": {"sent": 0, "read": 2},
    }


def test_page_of_the_run_shows_messages(acme: World) -> None:
    a, _ = talkers(acme, "a", "b")
    a.send("<b>bold</b>", to="b", type="greeting")

    page = acme.browser().get(reverse("admin:orchestrator_run_change", args=[a.claim.run_id]))

    shown = page.content.decode()
    assert "greeting" in shown
    assert "<b>bold</b>" not in shown
