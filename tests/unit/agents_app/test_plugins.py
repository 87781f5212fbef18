"""Agents and tools of one's own, read from a folder: what is broken costs itself alone."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents_app.core.agent import AgentConfig, Outcome, Ports
from agents_app.core.custom import CustomAgent
from agents_app.core.errors import AgentInvalidError, CustomAgentError, OutputInvalidError
from agents_app.core.model import FinishReason, ModelReply, ModelRequest
from agents_app.core.plugins import Plugins
from agents_app.core.tool_sources import ToolSources
from agents_app.core.tools import Tool
from agents_app.core.types.custom import CustomType
from agents_app.plugins import registry
from agents_app.runtime import run_agent
from agents_app.tools import installed
from agents_app.tools.builtin import BUILTIN_TOOLS
from costs.core.usage import Usage
from tenants.kernel.errors import PlatformError

HEAD = """
from agents_app.core.custom import CustomAgent
from agents_app.core.tools import tool
from agents_app.tools.calculator import calculator
"""
SHOUT = '''
class Shout(CustomAgent):
    """Says its prompt in capitals."""

    capabilities = ["translate"]

    def run(self, config, *, inputs, ports):
        return config.prompt.upper()
'''
NAMED = '    name = "shout"\n    capabilities'
WAVE = '''
@tool()
def wave(name: str) -> str:
    """Greet somebody."""
    return f"o/ {name}"
'''


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Any:
    settings.MUSTER_PLUGINS_DIR = str(tmp_path)
    registry.forget_plugins()
    yield tmp_path
    registry.forget_plugins()


def found(folder: Path, **files: str) -> Plugins:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(HEAD + text)
    registry.forget_plugins()
    return registry.plugins()


def test_agents_and_tools_are_found_without_configuration(folder: Path) -> None:
    plugins = found(folder, shout=SHOUT, wave=WAVE, _helper="raise SystemExit")

    agent = plugins.agents["shout"]
    assert (agent.description, agent.capabilities, agent.source) == (
        "Says its prompt in capitals.",
        ("translate",),
        "shout.py",
    )
    assert [each.name for each in plugins.tools] == ["wave"]
    assert plugins.broken == ()


RUN = "    def run(self, config, *, inputs, ports): ..."
BROKEN = [
    ("import nowhere_at_all", "does not import: ModuleNotFoundError"),
    ("def broken(:", "does not import: SyntaxError"),
    ("raise SystemExit(3)", "does not import: SystemExit"),
    ("x = 1", "neither an agent nor a tool"),
    (f"class A(CustomAgent):\n{RUN}", "no docstring"),
    ('class A(CustomAgent):\n    """A."""', "no method `run`"),
    ('class A(CustomAgent):\n    """A."""\n    def run(self, prompt): ...', "has to be `def run"),
    ('class A(CustomAgent):\n    """A."""\n    async' + RUN[3:], "async"),
    (f'class A(CustomAgent):\n    """A."""\n    name = "A b"\n{RUN}', "`name` has to be"),
    (f'class A(CustomAgent):\n    """A."""\n    capabilities = "x"\n{RUN}', "`capabilities`"),
    (f'class A(CustomAgent):\n    """A."""\n    def __init__(self): 1 / 0\n{RUN}', "ZeroDivision"),
    (f'class A(CustomAgent):\n    """A."""\n    def __init__(self, x): ...\n{RUN}', "arguments"),
    (f'class React(CustomAgent):\n    """A."""\n{RUN}', "a built-in agent"),
    ("@tool()\ndef wave(name: str) -> str: ...", "needs a docstring"),
    (WAVE.replace("def wave", "def calculator"), "a built-in tool"),
]


@pytest.mark.parametrize(("text", "reason"), BROKEN)
def test_broken_plugin_is_set_aside_with_its_reason(folder: Path, text: str, reason: str) -> None:
    plugins = found(folder, wrong=text, shout=SHOUT)

    assert list(plugins.agents) == ["shout"]
    (broken,) = plugins.broken
    assert broken.source == "wrong.py"
    assert reason in str(broken)


def test_all_that_is_wrong_is_told_at_once(folder: Path) -> None:
    text = 'class A(CustomAgent):\n    name = "A b"\n    capabilities = 3\n    calls_model = 1'

    (broken,) = found(folder, wrong=text).broken

    assert len(broken.reasons) == 5


def test_of_two_agents_with_one_name_none_is_used(folder: Path) -> None:
    other = SHOUT.replace("class Shout", "class Other").replace("    capabilities", NAMED)

    plugins = found(folder, one=SHOUT, two=other)

    assert not plugins.agents
    assert [each.source for each in plugins.broken] == ["one.py", "two.py"]
    assert "two.py" in str(plugins.fault_of_agent("shout"))


@pytest.mark.parametrize("name", ["delegate", "run_workflow", "calculator", "lookup"])
def test_tool_with_a_name_that_the_platform_uses_is_set_aside(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lookup = replace(BUILTIN_TOOLS["echo"], name="lookup")
    monkeypatch.setattr(installed, "_more", ToolSources([lookup]))

    plugins = found(folder, wave=WAVE.replace("wave", name))

    assert not plugins.tools
    assert f"{name!r} is the name of a built-in tool" in plugins.broken[0].reasons[0]


def test_heavy_tool_of_the_folder_runs_in_a_process_of_its_own(folder: Path) -> None:
    heavy = "import os\nfrom agents_app.sandbox.process import in_process\n" + WAVE.replace(
        "@tool()", "@in_process()\n@tool()"
    ).replace('f"o/ {name}"', "os.getpid()").replace("-> str", "-> int")

    (wave,) = found(folder, wave=heavy).tools

    assert isinstance(wave.tool, Tool)
    assert wave.tool.call({"name": "Ada"}) != os.getpid()


def test_folder_that_is_not_there_stops_nothing(folder: Path, settings: Any) -> None:
    settings.MUSTER_PLUGINS_DIR = str(folder / "gone")

    (broken,) = registry.plugins().broken

    assert "cannot be read" in str(broken)


def test_files_are_read_anew_where_they_are_watched(
    folder: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MUSTER_PLUGINS_RELOAD = True
    monkeypatch.setattr(registry, "_GLANCE_SECONDS", -1.0)
    before = found(folder, shout=SHOUT, wave=WAVE)
    kept = before.tools[0].tool

    changed = folder / "shout.py"
    changed.write_text(HEAD + SHOUT.replace("upper", "lower"))
    os.utime(changed, ns=(1, 1))

    after = registry.plugins()
    assert after.agents["shout"].agent is not before.agents["shout"].agent
    assert after.tools[0].tool is kept
    changed.unlink()
    assert not registry.plugins().agents


def test_files_are_read_once_in_production(folder: Path) -> None:
    before = found(folder, shout=SHOUT)

    (folder / "wave.py").write_text(HEAD + WAVE)

    assert registry.plugins() is before


class Model:
    """Says what it is told to, or raises it."""

    def __init__(self, says: str | Exception) -> None:
        self._says = says

    def complete(self, request: ModelRequest) -> ModelReply:
        if isinstance(self._says, Exception):
            raise self._says
        return ModelReply(
            text=self._says,
            finish_reason=FinishReason.STOP,
            usage=Usage(input_tokens=1, output_tokens=1),
            provider=request.provider,
            model=request.model,
        )


def run(agent: CustomAgent | str, *, model: Any = None, **changes: Any) -> Outcome:
    kind = CustomType(lambda _: agent)
    config = AgentConfig(type="custom", implementation="mine", prompt="Hi", **changes)
    ports = Ports(model=model or Model("Hello."), tools=BUILTIN_TOOLS)
    return kind.run(config, inputs={"a": 1}, ports=ports)


def agent_that(work: Any) -> CustomAgent:
    class Mine(CustomAgent):
        """Does as the test says."""

        def run(self, config: Any, *, inputs: Any, ports: Any) -> Any:
            return work(self, config, inputs, ports)

    return Mine()


def test_agent_asks_its_model_and_gives_json() -> None:
    agent = agent_that(
        lambda self, config, inputs, ports: [self.ask("?", config=config, ports=ports), inputs["a"]]
    )

    assert run(agent).output == ["Hello.", 1]


def test_agent_has_only_the_tools_that_it_is_given() -> None:
    agent = agent_that(lambda self, config, inputs, ports: [each.name for each in ports.tools])

    assert run(agent, tools=["echo"]).output == ["echo"]


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (lambda *_: 1 / 0, "ZeroDivisionError"),
        (lambda *_: exec("raise SystemExit"), "SystemExit"),
        (lambda *_: object(), "not JSON"),
        (lambda *_: float("nan"), "not JSON"),
    ],
)
def test_what_an_agent_breaks_is_its_steps_error(work: Any, told: str) -> None:
    with pytest.raises(CustomAgentError, match=told):
        run(agent_that(work))


def test_what_the_platform_ends_an_attempt_for_is_no_fault_of_the_agent() -> None:
    class MustWaitError(PlatformError):
        code = "must_wait"

    def asks(*_: Any) -> None:
        raise MustWaitError

    with pytest.raises(MustWaitError):
        run(agent_that(asks))


def test_output_is_held_against_the_schema() -> None:
    with pytest.raises(OutputInvalidError):
        run(agent_that(lambda *_: 3), output_schema={"type": "string"})


def test_agent_cannot_go_on_after_the_end_of_its_attempt() -> None:
    def swallow(self: Any, config: Any, inputs: Any, ports: Any) -> str:
        try:
            self.ask("?", config=config, ports=ports)
        except Exception:
            return "whatever"
        return "never"

    class MustWait(Exception):
        pass

    with pytest.raises(MustWait):
        run(agent_that(swallow), model=Model(MustWait()))


def test_agent_that_is_not_there_is_told_with_its_reason() -> None:
    with pytest.raises(AgentInvalidError, match="it is broken"):
        run("it is broken")


def test_unknown_names_tell_the_known(folder: Path) -> None:
    found(folder, shout=SHOUT)

    with pytest.raises(AgentInvalidError, match="known: shout"):
        run_agent(
            AgentConfig(type="custom", implementation="shot"),
            inputs={},
            ports=Ports(model=Model(""), tools=BUILTIN_TOOLS),
        )
