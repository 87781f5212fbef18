from dataclasses import replace

import pytest

from agents_app.core.agent import AgentConfig, AgentTypes, Ports
from agents_app.core.errors import (
    AgentInvalidError,
    OutputInvalidError,
    OutputTooLargeError,
    ProviderError,
    ProviderErrorKind,
    ToolNotAllowedError,
)
from agents_app.core.model import FinishReason, ModelReply
from agents_app.core.types import AGENT_TYPES
from agents_app.core.types.prompt import PromptAgent
from agents_app.runtime import run_agent
from agents_app.tools.builtin import BUILTIN_TOOLS
from costs.core.usage import Usage

ASK = AgentConfig(type="prompt", provider="local", model="smollm2", prompt="Name a colour.")
SCHEMA = {"type": "object", "required": ["colour"]}


class Answers:
    """A model that says one thing and remembers what it was asked."""

    def __init__(self, text, finish_reason=FinishReason.STOP):
        self.text, self.finish_reason = text, finish_reason

    def complete(self, request):
        self.request = request
        return ModelReply(
            text=self.text,
            finish_reason=self.finish_reason,
            usage=Usage(input_tokens=5, output_tokens=3),
            provider=request.provider,
            model=request.model,
        )


def run(config, *, model=None, inputs=None, tools=BUILTIN_TOOLS):
    return run_agent(config, inputs=inputs or {}, ports=Ports(model=model, tools=tools))


def test_prompt_agent_hands_on_the_answer():
    outcome = run(ASK, model=Answers("Red."))

    assert (outcome.output, outcome.text) == ("Red.", "Red.")


def test_prompt_agent_sends_its_parameters_without_the_token_bound():
    model = Answers("Red.")

    run(
        replace(ASK, system="Be brief.", parameters={"temperature": 0, "max_output_tokens": 9}),
        model=model,
    )

    assert model.request.system == "Be brief."
    assert model.request.messages[0].content == "Name a colour."
    assert model.request.parameters == {"temperature": 0}
    assert model.request.max_output_tokens == 9


def test_prompt_agent_with_a_schema_gives_json():
    outcome = run(replace(ASK, output_schema=SCHEMA), model=Answers('{"colour": "red"}'))

    assert outcome.output == {"colour": "red"}


@pytest.mark.parametrize(
    ("reason", "error", "told"),
    [
        (FinishReason.LENGTH, OutputInvalidError, "max_output_tokens"),
        (FinishReason.CONTEXT_FULL, ProviderError, "shorten the prompt"),
    ],
)
def test_cut_text_is_kept_but_cut_json_is_an_error(reason, error, told):
    cut = Answers("Red and", reason)

    assert run(ASK, model=cut).output == "Red and"
    with pytest.raises(error, match=told):
        run(replace(ASK, output_schema=SCHEMA), model=cut)


def test_nothing_but_reasoning_until_the_bound_is_an_error():
    with pytest.raises(OutputInvalidError, match="cut after 3 tokens"):
        run(ASK, model=Answers("", FinishReason.LENGTH))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (FinishReason.REFUSED, ProviderErrorKind.CONTENT_REFUSED),
        (FinishReason.TOOL_CALLS, ProviderErrorKind.PROTOCOL),
        (FinishReason.PAUSED, ProviderErrorKind.PROTOCOL),
        (FinishReason.UNKNOWN, ProviderErrorKind.PROTOCOL),
    ],
)
def test_an_answer_that_did_not_end_well_is_an_error(reason, kind):
    with pytest.raises(ProviderError) as caught:
        run(ASK, model=Answers("...", reason))

    assert caught.value.kind is kind
    assert not caught.value.retryable


def test_prompt_agent_lists_all_its_problems():
    config = AgentConfig(
        type="prompt",
        parameters={"max_output_tokens": True},
        output_schema={"type": "text"},
    )

    fields = [problem.field for problem in PromptAgent().problems(config, BUILTIN_TOOLS)]

    assert fields == ["prompt", "model", "parameters.max_output_tokens", "output_schema"]


def test_tool_agent_calls_its_tool():
    config = AgentConfig(type="tool", tool="calculator", arguments={"expression": "6*7"})

    outcome = run(config)

    assert (outcome.output, outcome.text) == (42, "42")


def test_tool_agent_cannot_reach_a_tool_outside_its_box():
    with pytest.raises(ToolNotAllowedError):
        run(AgentConfig(type="tool", tool="calculator"), tools=BUILTIN_TOOLS.only(["echo"]))


def test_tool_agent_checks_its_result_against_the_schema():
    config = AgentConfig(
        type="tool", tool="echo", arguments={"value": 1}, output_schema={"type": "string"}
    )

    with pytest.raises(OutputInvalidError):
        run(config)


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (AgentConfig(type="tool"), ["tool"]),
        (AgentConfig(type="tool", tool="rocket"), ["tool"]),
        (
            AgentConfig(type="tool", tool="calculator", arguments={"x": "1"}),
            ["arguments.expression", "arguments.x"],
        ),
        (AgentConfig(type="tool", tool="calculator", arguments={"expression": "${item}"}), []),
        (AgentConfig(type="aggregator", mode="stir"), ["mode"]),
        (AgentConfig(type="aggregator"), []),
    ],
)
def test_problems_are_told_before_running(config, fields):
    found = AGENT_TYPES[config.type].problems(config, BUILTIN_TOOLS)

    assert [problem.field for problem in found] == fields


@pytest.mark.parametrize(
    ("mode", "output"),
    [
        ("", {"a": {"x": 1, "y": 1}, "b": None, "c": {"y": 2}}),
        ("concat", '{"x":1,"y":1}\n\n{"y":2}'),
        ("merge", {"x": 1, "y": 2}),
    ],
)
def test_aggregator_combines_what_came_before(mode, output):
    inputs = {"a": {"x": 1, "y": 1}, "b": None, "c": {"y": 2}}

    assert run(AgentConfig(type="aggregator", mode=mode), inputs=inputs).output == output


def test_aggregator_joins_with_the_separator_it_is_given():
    config = AgentConfig(type="aggregator", mode="concat", separator=" | ")

    assert run(config, inputs={"a": "x", "b": "y"}).output == "x | y"


def test_aggregator_cannot_merge_texts():
    with pytest.raises(AgentInvalidError, match="step 'a'"):
        run(AgentConfig(type="aggregator", mode="merge"), inputs={"a": "text"})


@pytest.mark.parametrize("mode", ["collect", "concat", "merge"])
def test_aggregator_refuses_to_combine_too_much(mode):
    inputs = {name: {name: "x" * 2_000_000} for name in "abc"}

    with pytest.raises(OutputTooLargeError, match=r"6,000,0\d\d bytes.* 5,000,000 .*fewer steps"):
        run(AgentConfig(type="aggregator", mode=mode), inputs=inputs)


def test_aggregator_counts_what_is_left_after_a_merge():
    inputs = {name: {"same": "x" * 2_000_000} for name in "abc"}

    output = run(AgentConfig(type="aggregator", mode="merge"), inputs=inputs).output

    assert output == {"same": "x" * 2_000_000}


def test_aggregator_counts_its_separators():
    config = AgentConfig(type="aggregator", mode="concat", separator="-" * 1_000_000)

    with pytest.raises(OutputTooLargeError, match="999,001,000 bytes"):
        run(config, inputs=dict.fromkeys(map(str, range(1_000)), "x"))


def test_unknown_types_name_the_known():
    with pytest.raises(AgentInvalidError, match="known: prompt, react, planner, pattern_planner"):
        run(AgentConfig(type="wizard"))


def test_type_names_are_unique():
    with pytest.raises(ValueError, match="prompt"):
        AgentTypes(PromptAgent(), PromptAgent())
