from typing import Any

import pytest
from django.urls import reverse

from agents_app.models import Agent
from tests.rest import call, get, made, post, problems
from tests.world import World

WRITER = {"slug": "writer", "prompt": "Write.", "role": "executor", "provider": "local"}


def test_agent_is_saved_shown_changed_and_deleted(acme: World) -> None:
    client = acme.client()
    agent = made(post(client, "agents", WRITER))

    changed = made(call(client, "PATCH", f"agents/{agent['id']}", {"system": "Be brief."}))

    assert (changed["name"], changed["type"], changed["prompt"]) == ("writer", "prompt", "Write.")
    assert changed["system"] == "Be brief."
    assert call(client, "DELETE", f"agents/{agent['id']}").status_code == 204
    assert get(client, f"agents/{agent['id']}").status_code == 404


def test_saved_agent_works_in_a_workflow(acme: World) -> None:
    client = acme.client()
    tool = {"slug": "echoes", "type": "tool", "settings": {"tool": "echo"}}
    made(post(client, "agents", tool))
    steps = {"one": {"agent": "echoes", "arguments": {"value": 1}}}

    report = made(post(client, "workflows/validate", {"name": "x", "steps": steps}))

    assert report == {"valid": True, "errors": []}


def test_slug_is_taken_once(acme: World) -> None:
    made(post(acme.client(), "agents", WRITER))

    assert problems(post(acme.client(), "agents", WRITER)) == {("/slug", "already_exists")}


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"type": "wizard"}, ("/type", "invalid_choice")),
        ({"role": "poet"}, ("/role", "invalid_choice")),
        ({"provider": "unheard"}, ("/provider", "invalid_choice")),
        ({"tools": ["echo"]}, ("/tools", "invalid")),
        ({"type": "react", "tools": ["ech"]}, ("/tools", "invalid")),
        ({"type": "react", "settings": {"max_turns": 0}}, ("/settings/max_turns", "min_value")),
        ({"parameters": []}, ("/parameters", "not_a_dict")),
        ({"parameters": {"max_output_tokens": 0}}, ("/parameters/max_output_tokens", "invalid")),
        ({"output_schema": {"type": 7}}, ("/output_schema", "invalid")),
        ({"type": "tool"}, ("/settings/tool", "invalid")),
        ({"type": "tool", "settings": {"tool": "nothing"}}, ("/settings/tool", "invalid")),
        ({"type": "aggregator", "settings": {"mode": {}}}, ("/settings/mode", "invalid_choice")),
        ({"settings": {"colour": "red"}}, ("/settings/colour", "unknown_field")),
        (
            {"type": "planner", "settings": {"approve_above_usd": "much"}},
            ("/settings/approve_above_usd", "invalid"),
        ),
        (
            {"type": "planner", "settings": {"role_models": {"planner": {"provider": "local"}}}},
            ("/settings/role_models/planner/model", "invalid"),
        ),
        ({"settings": None}, ("/settings", "null")),
    ],
)
def test_agent_that_cannot_work_is_refused(
    acme: World, fields: dict[str, Any], found: tuple[str, str]
) -> None:
    answer = post(acme.client(), "agents", {"slug": "x", **fields})

    assert answer.status_code == 400
    assert problems(answer) == {found}


def test_tools_are_listed_with_their_schema(acme: World) -> None:
    tools = {tool["name"]: tool for tool in made(get(acme.client(), "tools"))["results"]}

    assert {"calculator", "echo", "text_stats"} <= set(tools)
    assert tools["calculator"]["parameters"]["type"] == "object"
    assert made(get(acme.client(), "tools/echo")) == tools["echo"]


def test_unknown_tool_is_404(acme: World) -> None:
    assert get(acme.client(), "tools/nothing").status_code == 404


def test_agents_are_found_by_what_they_are_good_for(acme: World, globex: World) -> None:
    client = acme.client()
    made(post(client, "agents", {"slug": "ada", "capabilities": ["translation", "german"]}))
    made(post(client, "agents", {"slug": "bob", "capabilities": ["law"]}))

    found = made(get(client, "agents?capability=translation"))["results"]

    assert [(each["slug"], each["capabilities"]) for each in found] == [
        ("ada", ["translation", "german"])
    ]
    assert made(get(globex.client(), "agents?capability=translation"))["results"] == []


@pytest.mark.parametrize("given", [["Two words"], [""], ["x" * 64], ["a"] * 51, "law", [7]])
def test_capabilities_are_short_words(acme: World, given: Any) -> None:
    answer = post(acme.client(), "agents", {"slug": "x", "capabilities": given})

    assert answer.status_code == 400
    assert {loc.split("/")[1] for loc, _ in problems(answer)} == {"capabilities"}


def test_capabilities_are_edited_and_looked_up_in_the_admin(acme: World) -> None:
    page = acme.browser()
    form = {"name": "Ada", "slug": "ada", "type": "prompt", "capabilities": "law, german, law"}

    added = page.post(reverse("admin:agents_app_agent_add"), form)

    listing = reverse("admin:agents_app_agent_changelist")
    with acme.scope():
        assert (added.status_code, Agent.objects.get().capabilities) == (302, ["law", "german"])
    for query, is_found in (("capability=law", True), ("q=germ", True), ("q=french", False)):
        assert ("law, german" in page.get(f"{listing}?{query}").text) is is_found
