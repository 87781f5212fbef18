"""Agents and tools of the operator's own, added by a file, in the hands of tenants."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse

from agents_app.plugins import registry
from agents_app.selectors import agent_grants
from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.models import LlmCall
from tests.e2e.stories import start
from tests.engine_driver import drain, step_of
from tests.rest import call, get, made, post
from tests.world import World

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "agents.md"
WITHOUT_MODEL = '''
from agents_app.core.custom import CustomAgent

class Haiku(CustomAgent):
    """Hands on what it is given."""
    calls_model = False

    def run(self, config, *, inputs, ports):
        return {**config.arguments, "inputs": inputs}
'''
CUSTOM = {"type": "custom", "provider": "simulated", "model": "sim"}


def code_in_the_guide(word: str) -> str:
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S) if word in c)
    return code


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, settings: Any) -> Iterator[Path]:
    (tmp_path / "haiku.py").write_text(code_in_the_guide("class Haiku"))
    (tmp_path / "initials.py").write_text(code_in_the_guide("def initials"))
    (tmp_path / "gone.py").write_text("import nowhere_at_all")
    settings.MUSTER_PLUGINS_DIR = str(tmp_path)
    registry.forget_plugins()
    agent_grants.forget_grants()
    yield tmp_path
    registry.forget_plugins()
    agent_grants.forget_grants()


def allow(world: World, path: str, *, allowed: bool = True) -> dict[str, Any]:
    return made(call(world.client(), "PATCH", path, {"allowed": allowed}))


def haiku(**more: Any) -> dict[str, Any]:
    return {"agent": {**CUSTOM, "implementation": "haiku"}, "prompt": "The sea", **more}


def problems(world: World, steps: dict[str, Any]) -> list[dict[str, Any]]:
    spec = {"muster": 1, "name": "story", "steps": steps}
    answer = made(post(world.client(), "workflows/validate", spec))
    found: list[dict[str, Any]] = answer["errors"]
    return found


def test_the_guides_agent_has_under_ten_lines() -> None:
    for word in ("class Haiku", "def initials"):
        lines = [line for line in code_in_the_guide(word).splitlines() if line.strip()]
        assert len(lines) <= 10


def test_custom_agent_works_for_a_tenant_that_allows_it(acme: World) -> None:
    allow(acme, "agents/types/haiku")
    run = drain(acme, start(acme, {"write": haiku(parameters={"text": "Waves."})}))

    assert (run.status, run.output) == ("completed", "Waves.")
    with acme.scope():
        assert LlmCall.objects.get(run=run).status == "closed"


def test_custom_tool_works_for_a_tenant_that_allows_it(acme: World) -> None:
    allow(acme, "tools/initials")
    agent = {"type": "tool", "tool": "initials", "arguments": {"name": "Ada Lovelace"}}

    assert drain(acme, start(acme, {"a": {"agent": agent}})).output == "AL"


def test_new_tenant_has_only_what_is_built_in(acme: World, globex: World) -> None:
    allow(acme, "agents/types/haiku")
    initials = {"type": "tool", "tool": "initials", "arguments": {"name": "Ada"}}

    found = problems(globex, {"write": haiku(), "a": {"agent": initials}})

    assert [(each["loc"], each["code"]) for each in found] == [
        ("/steps/write/agent/implementation", "agent_not_allowed"),
        ("/steps/a/agent/tool", "tool_not_allowed"),
    ]


def test_broken_agent_is_told_where_a_workflow_names_it(acme: World) -> None:
    gone = {"agent": {**CUSTOM, "implementation": "gone"}, "prompt": "x"}
    unknown = {"agent": {**CUSTOM, "implementation": "haikus"}, "prompt": "x"}

    found = problems(acme, {"a": gone, "b": unknown})

    assert "ModuleNotFoundError" in found[0]["message"]
    assert "did you mean `haiku`?" in found[1]["message"]


def test_agent_that_is_refused_later_is_not_run_any_more(acme: World) -> None:
    allow(acme, "agents/types/haiku")
    run_id = start(acme, {"write": haiku()})
    allow(acme, "agents/types/haiku", allowed=False)

    assert drain(acme, run_id).status == "failed"
    assert step_of(acme, run_id, "write").error["code"] == "agent_not_allowed"


def test_agent_whose_file_is_gone_fails_its_step_in_words(acme: World, folder: Path) -> None:
    allow(acme, "agents/types/haiku")
    run_id = start(acme, {"write": haiku()})
    (folder / "haiku.py").unlink()
    registry.forget_plugins()

    assert drain(acme, run_id).status == "failed"
    assert "no custom agent 'haiku'" in step_of(acme, run_id, "write").error["message"]


def test_agent_without_a_model_needs_none(acme: World, folder: Path) -> None:
    (folder / "haiku.py").write_text(WITHOUT_MODEL)
    registry.forget_plugins()
    allow(acme, "agents/types/haiku")
    agent = {"type": "custom", "implementation": "haiku", "arguments": {"a": "${input.n}"}}

    run_id = start(acme, {"a": {"agent": agent}}, given={"n": 7})

    assert drain(acme, run_id).output == {"a": 7, "inputs": {}}
    assert not step_of(acme, run_id, "a").uses_model


def test_type_that_a_tenant_refuses_is_not_published(acme: World, globex: World) -> None:
    allow(acme, "agents/types/react", allowed=False)
    react = {"agent": {"type": "react", "provider": "simulated", "model": "sim"}, "prompt": "x"}

    assert [each["code"] for each in problems(acme, {"a": react})] == ["agent_not_allowed"]
    assert problems(globex, {"a": react}) == []
    with pytest.raises(WorkflowInvalidError):
        start(acme, {"a": react})


def test_types_are_listed_with_capabilities_and_what_is_broken(acme: World) -> None:
    client = acme.client()
    listed = {each["name"]: each for each in made(get(client, "agents/types"))["results"]}
    poets = made(get(client, "agents/types?capability=poetry"))["results"]

    assert (listed["prompt"]["origin"], listed["prompt"]["allowed"]) == ("built-in", True)
    assert (listed["haiku"]["type"], listed["haiku"]["allowed"]) == ("custom", False)
    assert "ModuleNotFoundError" in listed["gone"]["fault"]
    assert [each["name"] for each in poets] == ["haiku"]


def test_stranger_neither_sees_nor_changes_what_a_tenant_allows(acme: World, globex: World) -> None:
    allow(acme, "agents/types/haiku")

    assert made(get(globex.client(), "agents/types/haiku"))["allowed"] is False
    viewer = acme.client("workflows:read")
    assert call(viewer, "PATCH", "agents/types/haiku", {"allowed": False}).status_code == 403
    assert call(acme.client(), "PATCH", "agents/types/nobody", {"allowed": True}).status_code == 404


def test_page_of_agent_types_allows_them(acme: World) -> None:
    browser = acme.browser()
    page = browser.get(reverse("admin:agent_types")).content.decode()
    assert "Writes a haiku" in page
    assert "ModuleNotFoundError" in page

    address = reverse("admin:agent_type_allow", args=["haiku"])
    browser.post(address, {"allowed": "yes"})

    assert made(get(acme.client(), "agents/types/haiku"))["allowed"] is True
