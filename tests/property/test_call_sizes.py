"""No call of an agent that works in turns reads more than was told before it ran.

The agents are the real ones; only what their models say and their tools bring is made up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from agents_app.core.agent import Ports
from agents_app.core.errors import AgentsError, ProviderError
from agents_app.core.journal import ToolEnd
from agents_app.core.model import FinishReason, ModelReply, ModelRequest, ToolCall
from agents_app.core.tools import Tool, Toolbox, tool
from agents_app.core.values import dump, text_size
from agents_app.runtime import run_agent
from costs.core.usage import Usage
from orchestrator.core.call_sizes import OVERHEAD_TOKENS, config_of, reads
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.plan import PlannedStep, compile_plan
from orchestrator.core.prices import Priceable, Terms

MOST_BYTES = 400
LEAST_CALL = 8
WIDE: dict[str, Any] = {
    "type": "object",
    "required": ["a"],
    "properties": {"a": {"type": "integer", "description": "d" * 3_000}},
}


@tool(max_result_bytes=MOST_BYTES)
def peek(where: str) -> str:
    """Look somewhere."""
    if where.endswith("!"):
        raise ValueError("😀" * MOST_BYTES)
    return ("<tool_output>" * MOST_BYTES)[: MOST_BYTES - 2]


TOOLS: dict[str, Tool] = {"peek": peek}
kinds = st.sampled_from(["misfit", "misfit", "empty", "peek", "peek", "fail", "stray", "cut"])


@dataclass
class Model:
    """Says what it is to, as long as it may, and then goes on with what it said last."""

    script: Sequence[str]
    most: int
    sizes: list[int] = field(default_factory=list)

    def complete(self, request: ModelRequest) -> ModelReply:
        kind = self.script[min(len(self.sizes), len(self.script) - 1)]
        self.sizes.append(text_size(request.prompt_text) + OVERHEAD_TOKENS)
        calls = self.calls(kind) if request.tools else []
        text = "n" * self.most if kind != "empty" and not calls else ""
        if not request.tools and kind == "peek":
            text = dump({"tasks": [{"id": "a", "title": "A", "task": "Do it."}]})
        finish = FinishReason.TOOL_CALLS if calls else FinishReason.STOP
        return ModelReply(
            text=text,
            finish_reason=FinishReason.LENGTH if kind == "cut" else finish,
            usage=Usage(input_tokens=1, output_tokens=1),
            provider="p",
            model="m",
            tool_calls=tuple(calls),
        )

    def calls(self, kind: str) -> list[ToolCall]:
        """As many as it can write, of which none was made before."""
        if kind not in {"peek", "fail", "stray", "cut"}:
            return []
        found: list[ToolCall] = []
        left, mark = self.most, "!" if kind == "fail" else ""
        while True:
            number = f"{len(self.sizes)}-{len(found)}"
            name = "x" if kind == "stray" else "peek"
            arguments: dict[str, JsonValue] = {"where": number + mark} if name == "peek" else {}
            left -= max(LEAST_CALL, len(f"{name} {dump(arguments)}\n"))
            if left < 0:
                return found
            found.append(ToolCall(id=number, name=name, arguments=arguments))


class Reports:
    """Has all that a planner hands out done already, with more to tell of it than is shown."""

    def begin(self, turn: int, calls: Sequence[ToolCall], **_: Any) -> Mapping[str, ToolEnd]:
        done = {"status": "completed", "output": "😀" * 5_000}
        return {each.id: ToolEnd(output={"a": done}) for each in calls if each.name == "plan"}

    def end(self, turn: int, call_id: str, end: ToolEnd) -> None: ...


def terms() -> Terms:
    def workflow_of(version_id: str) -> Priceable:
        raise AssertionError(version_id)

    return Terms(
        price_of=lambda *_: None,
        window_of=lambda *_: None,
        workflow_of=workflow_of,
        attempts=1,
        max_added_steps=1,
        tool_of=TOOLS.get,
    )


def planned(agent: Mapping[str, Any], most: int) -> PlannedStep:
    written = {"provider": "p", "model": "m", "prompt": "Work. " * 20, **agent}
    one = {"agent": written, "parameters": {"max_output_tokens": most}}
    return compile_plan(spec_from_mapping({"name": "s", "steps": {"a": one}}), {}, {}).step("a")


def check(step: PlannedStep, model: Model) -> None:
    ports = Ports(model=model, tools=Toolbox(TOOLS.values()), journal=Reports())
    try:
        run_agent(config_of(step), inputs={}, ports=ports)
    except (AgentsError, ProviderError) as error:
        note(repr(error))
    bounds = reads(step, model.sizes[0], window=None, terms=terms())
    note(f"{model.sizes} within {bounds}")
    assert len(model.sizes) <= len(bounds)
    assert all(size <= bound for size, bound in zip(model.sizes, bounds, strict=False))


@settings(deadline=None)
@given(
    script=st.lists(kinds, min_size=1, max_size=6),
    tools=st.sampled_from([[], ["peek"]]),
    schema=st.sampled_from([None, WIDE]),
    most=st.sampled_from([8, 100, 1_000]),
    repairs=st.integers(0, 5),
    memory=st.sampled_from([None, {"max_tokens": 500}, {"max_tokens": 500, "summary": True}]),
)
def test_no_turn_reads_more_than_its_bound(
    script: list[str],
    tools: list[str],
    schema: dict[str, Any] | None,
    most: int,
    repairs: int,
    memory: dict[str, Any] | None,
) -> None:
    agent = {"type": "react", "tools": tools, "repairs": repairs, "max_turns": 8}
    given_form = {"output_schema": schema} if schema else {}
    kept = {"memory": memory} if memory else {}

    check(planned({**agent, **given_form, **kept}, most), Model(script, most))


@settings(deadline=None)
@given(
    script=st.lists(kinds, min_size=1, max_size=6),
    schema=st.sampled_from([None, WIDE, {**WIDE, "description": "d" * 60_000}]),
    memory=st.sampled_from([None, {"max_tokens": 500}]),
)
def test_no_plan_reads_more_than_its_bound(
    script: list[str],
    schema: dict[str, Any] | None,
    memory: dict[str, Any] | None,
) -> None:
    given_form = {"output_schema": schema} if schema else {}
    kept = {"memory": memory} if memory else {}
    agent = {"type": "planner", "max_turns": 6, "max_tasks": 1}

    check(planned({**agent, **given_form, **kept}, 100), Model(script, 100))
