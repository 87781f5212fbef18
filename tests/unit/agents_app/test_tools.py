from collections.abc import Callable
from dataclasses import replace
from typing import Annotated
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, JsonValue

from agents_app.core.completing import Completion
from agents_app.core.errors import ToolFailedError, ToolNotAllowedError
from agents_app.core.model import FinishReason, ModelReply
from agents_app.core.tool_sources import ToolOwner
from agents_app.core.tools import Toolbox, ToolContext, tool
from agents_app.tools.builtin import BUILTIN_FACTORIES, BUILTIN_TOOLS
from costs.core.usage import Usage


class Line(BaseModel):
    title: str
    amount: int = 1


@tool()
def order(lines: list[Line], note: Annotated[str, Field(max_length=10)] = "") -> JsonValue:
    """Place an order."""
    return {"count": sum(line.amount for line in lines), "note": note}


def test_schema_comes_from_the_signature():
    assert (order.name, order.description) == ("order", "Place an order.")
    assert order.parameters["required"] == ["lines"]
    assert order.parameters["additionalProperties"] is False
    assert order.parameters["properties"]["note"]["maxLength"] == 10
    assert order.parameters["$defs"]["Line"]["properties"]["title"] == {"type": "string"}


def test_arguments_reach_the_function_as_its_own_types():
    assert order.call({"lines": [{"title": "ink", "amount": 3}]}) == {"count": 3, "note": ""}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "lines: Field required"),
        ({"lines": "no"}, "lines: Input should be a valid list"),
        ({"lines": [], "colour": "red"}, "colour: Extra inputs"),
        ({"lines": [], "note": "x" * 11}, "note: String should have at most 10"),
    ],
)
def test_bad_arguments_are_named(arguments, told):
    with pytest.raises(ToolFailedError, match=told):
        order.call(arguments)


def test_what_a_tool_raises_is_its_failure():
    @tool()
    def broken() -> int:
        """Fail."""
        raise KeyError("shelf")

    with pytest.raises(ToolFailedError, match="KeyError: 'shelf'"):
        broken.call({})


@pytest.mark.parametrize("result", [object(), float("nan"), {1: "a"}, b"x"])
def test_results_must_be_json(result):
    @tool()
    def strange() -> JsonValue:
        """Answer oddly."""
        return result

    with pytest.raises(ToolFailedError, match="not JSON"):
        strange.call({})


def test_results_are_bounded():
    @tool(max_result_bytes=10)
    def chatty() -> str:
        """Talk."""
        return "é" * 5

    with pytest.raises(ToolFailedError, match="12 bytes; at most 10"):
        chatty.call({})


def test_functions_that_cannot_be_called_by_name_are_no_tools():
    with pytest.raises(TypeError, match="by name"):

        @tool()
        def rest(*args: int) -> int:
            """Sum."""
            return sum(args)

    with pytest.raises(TypeError, match="docstring"):

        @tool()
        def silent() -> int:
            return 1


def test_a_narrowed_toolbox_holds_only_what_was_granted():
    box = BUILTIN_TOOLS.only(["echo"])

    assert "calculator" not in box
    with pytest.raises(ToolNotAllowedError, match="available: echo"):
        box["calculator"]


def test_names_in_a_toolbox_are_unique():
    with pytest.raises(ValueError, match="order"):
        Toolbox([order, order])


def test_echo_gives_back_any_json():
    value = {"a": [1, None, "x"]}

    assert BUILTIN_TOOLS["echo"].call({"value": value}) == value


def test_text_stats_counts():
    counted = BUILTIN_TOOLS["text_stats"].call({"text": "one two\nthree"})

    assert counted == {"characters": 13, "words": 3, "lines": 2}


def context() -> ToolContext:
    ids = {name: UUID(int=n) for n, name in enumerate(("tenant_id", "run_id", "agent_run_id"))}
    return ToolContext(**ids, step="a", call_id=UUID(int=9))


@tool()
def where(around: ToolContext, suffix: str = "") -> str:
    """Tell the step."""
    return around.step + suffix


def test_context_is_for_the_tool_and_not_for_models():
    assert [*where.parameters["properties"]] == ["suffix"]
    assert where.call({"suffix": "!"}, context=context()) == "a!"
    with pytest.raises(ToolFailedError, match="around: Extra inputs"):
        where.call({"around": "elsewhere"}, context=context())


def test_only_a_tool_that_says_so_is_given_models():
    class Model:
        def complete(self, wanted: Completion, *, call_id: UUID) -> ModelReply:
            return ModelReply(
                text=wanted.prompt,
                finish_reason=FinishReason.STOP,
                usage=Usage(input_tokens=1, output_tokens=1),
                provider="p",
                model="m",
            )

    def ask(around: ToolContext) -> str:
        """Ask a model."""
        return around.models.complete(Completion(prompt="x"), call_id=around.call_id).text

    asked = replace(context(), models=Model())

    assert tool(asks_models=True)(ask).call({}, context=asked) == "x"
    with pytest.raises(ToolFailedError, match="asks_models=True"):
        tool()(ask).call({}, context=asked)


def test_tool_that_needs_a_run_fails_without_one():
    with pytest.raises(ToolFailedError, match="only within a run"):
        where.call({})


@tool(bound=("word", "shout"))
def greet(name: str, *, word: str, shout: Callable[[str], str]) -> str:
    """Greet somebody."""
    return shout(f"{word}, {name}")


def test_bound_arguments_are_not_for_models():
    hello = greet.bound(word="Hello", shout=str.upper)

    assert [*hello.parameters["properties"]] == ["name"]
    assert hello.call({"name": "Ada"}) == "HELLO, ADA"
    assert greet.bound(word="Moin", shout=str).call({"name": "Ada"}) == "Moin, Ada"
    with pytest.raises(ToolFailedError, match="word: Extra inputs"):
        hello.call({"name": "Ada", "word": "Bye"})


def test_tools_of_a_tenant_are_made_without_looking_at_their_functions_again(monkeypatch):
    monkeypatch.setattr("agents_app.core.tools.create_pydantic_model", pytest.fail)
    owner = ToolOwner(tenant_id=UUID(int=1), settings={}, secret=str)

    names = [each.name for factory in BUILTIN_FACTORIES for each in factory.tools(owner)]

    assert names == ["web_search", "http_request", "sql_query"]


def test_each_call_of_an_agent_has_a_name_of_its_own_that_stays():
    first = context().for_call(1, "x")

    assert first == context().for_call(1, "x")
    assert len({each.call_id for each in (first, first.for_call(1, "x"), context())}) == 3
    assert context().for_call(2, "x").call_id != first.call_id
