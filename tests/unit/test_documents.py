"""What the documents show works, and what they list is complete."""

import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.urls import resolve

from agents_app.agent_types import ALL_TYPES
from agents_app.api.urls import router as agents
from agents_app.core.agent import AgentConfig
from agents_app.core.roles import Role
from agents_app.core.tool_sources import ToolFactory, ToolOwner
from agents_app.providers.base import ProviderKind
from agents_app.providers.simulation import SimulatedOptions
from agents_app.tools.builtin import BUILTIN_FACTORIES, BUILTIN_TOOLS
from costs.api.urls import router as ledger
from orchestrator.api.urls import router as runs
from orchestrator.core.spec import FIELDS_OF_AGENT
from orchestrator.core.validation import Catalog, examine
from orchestrator.core.yaml_io import load_text
from tenants.api.urls import router as people

ROOT = Path(__file__).resolve().parents[2]
CALL = re.compile(r"`(GET|POST|PUT|PATCH|DELETE) ([a-z][a-z/{}-]*)")
AN_ID = "01a1fdeb-2481-720d-9a41-1f446a2e4bdc"
SAVED = {"type": "prompt", "system": "You are careful.", "prompt": "Do it."}
CATALOG = Catalog(
    agents=dict.fromkeys(["editor", "researcher", "writer"], SAVED),
    workflows={"fact-check": frozenset({1})},
    tools={tool.name: tool.parameters for tool in BUILTIN_TOOLS},
    custom_agents={"haiku": ("poetry",)},
    providers=dict.fromkeys(ProviderKind, True),
)


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(name), re.MULTILINE | re.DOTALL)


def table(name: str, heading: str) -> list[list[str]]:
    """The cells of the first table whose header begins with `heading`."""
    lines = text_of(name).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |")) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("name", ["README.md", "docs/workflows.md", "docs/agents.md"])
def test_workflows_in_documents_can_be_published(name: str) -> None:
    specs = [block for block in blocks(name, "yaml") if block.startswith("muster:")]

    assert specs
    for spec in specs:
        report = examine(load_text(spec.encode()), CATALOG)
        assert [*report.problems, *report.unsupported] == []


def test_workflow_in_python_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("docs/workflows.md", "python")

    exec(code, {})

    report = examine(load_text(capsys.readouterr().out.encode()), CATALOG)
    assert report.can_publish
    assert report.spec
    assert report.spec.steps[1].needs == ["greet"]


def test_tool_in_the_guide_works() -> None:
    (code,) = (code for code in blocks("docs/agents.md", "python") if "@tool" in code)
    space: dict[str, Any] = {}

    exec(code, space)

    assert space["initials"].call({"name": "Ada Lovelace"}) == "AL"


def test_guide_lists_every_agent_type_with_its_fields() -> None:
    rows = {names(row[0])[0]: row for row in table("docs/agents.md", "type")}

    assert list(rows) == [kind.name for kind in ALL_TYPES]
    of_config = set(AgentConfig.__dataclass_fields__)
    for name, row in rows.items():
        fields = FIELDS_OF_AGENT[name] - {"type", "role", "output_schema"}
        assert set(names(row[2])) & of_config == fields


def test_guide_lists_every_tool() -> None:
    told = {names(row[0])[0]: set(names(row[1])) for row in table("docs/agents.md", "tool")}
    owner = ToolOwner(tenant_id=UUID(int=0), settings={}, secret=str)
    factories = [each for each in BUILTIN_FACTORIES if isinstance(each, ToolFactory)]
    made = [tool for factory in factories for tool in factory.tools(owner)]

    assert told == {t.name: set(t.parameters["properties"]) for t in (*BUILTIN_TOOLS, *made)}


def test_guide_lists_every_provider_and_role() -> None:
    told = {names(row[0])[0] for row in table("docs/providers.md", "name")}

    assert told == set(ProviderKind)
    assert set(Role) <= set(names(text_of("docs/agents.md")))


def test_guide_lists_every_option_of_the_simulated_provider() -> None:
    told = {name for row in table("docs/providers.md", "parameter") for name in names(row[0])}

    assert told == set(SimulatedOptions.model_fields)


def test_index_of_decisions_is_complete() -> None:
    files = sorted(path.name for path in (ROOT / "docs/adr").glob("0*.md"))
    index = text_of("docs/adr/README.md")

    assert re.findall(r"\((0[^)]+)\)", index) == files
    for name in files:
        headings = re.findall(r"^## (\w+)$", text_of(f"docs/adr/{name}"), re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "Rejected"]


def test_guide_names_calls_that_exist() -> None:
    calls = CALL.findall(text_of("docs/api.md"))

    assert len(calls) > 20
    for method, path in calls:
        address = path.replace("{id}", AN_ID).replace("{number}", "1")
        found = resolve("/api/v1/" + address)
        assert method.lower() in found.func.actions, f"{method} {path}"


def test_guide_names_every_resource() -> None:
    told = text_of("docs/api.md")
    routes = {prefix for r in (runs, people, ledger, agents) for prefix, _, _ in r.registry}

    assert [route for route in routes if f"`{route}" not in told and f" {route}" not in told] == []


def test_guide_names_events_that_are_logged() -> None:
    rooms = ("orchestrator", "agents_app")
    sources = "".join(p.read_text() for room in rooms for p in (ROOT / room).rglob("*.py"))
    events = {name for row in table("docs/operations.md", "event") for name in names(row[0])}

    logged = set(re.findall(r"\blog\.(?!open)\w+\(\s*\"(\w+)\"", sources))
    assert events <= logged | {"recovered"}
    assert logged <= events | {"swept"}
