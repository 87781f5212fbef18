"""The clients against a real model behind llama.cpp's server."""

import pytest

from agents_app.core.agent import AgentConfig, Ports
from agents_app.core.errors import OutputInvalidError, ProviderError, ProviderErrorKind
from agents_app.core.model import FinishReason
from agents_app.providers.check import check
from agents_app.runtime import run_agent
from agents_app.tools.builtin import BUILTIN_TOOLS
from tests.integration.agents_app.providers import client, request, settings_for
from tests.model_servers import MODEL_NAME

SCHEMA = {
    "type": "object",
    "required": ["colour", "count"],
    "additionalProperties": False,
    "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer"}},
}


@pytest.fixture
def local(smollm2_url):
    return client("local", f"{smollm2_url}/v1")


@pytest.fixture
def messages_api(smollm2_url):
    return client("anthropic", smollm2_url)


def config(provider, **changes):
    facts = {
        "type": "prompt",
        "provider": provider,
        "model": MODEL_NAME,
        "system": "Be brief.",
        "prompt": "Name a colour and how many things have it.",
        "parameters": {"temperature": 0, "max_output_tokens": 60},
    }
    return AgentConfig(**{**facts, **changes})


@pytest.mark.parametrize("name", ["local", "messages_api"])
def test_the_model_answers_through_either_sdk(name, request):
    ports = Ports(model=request.getfixturevalue(name), tools=BUILTIN_TOOLS)

    outcome = run_agent(config("any"), inputs={}, ports=ports)

    assert len(outcome.text) > 3


@pytest.mark.parametrize("name", ["local", "messages_api"])
def test_usage_counts_the_whole_prompt_even_when_cached(name, request_for, request):
    provider = request.getfixturevalue(name)
    first = provider.complete(request_for)

    again = provider.complete(request_for)

    assert again.usage.input_tokens == first.usage.input_tokens > 20
    assert again.usage.cached_tokens > 0
    assert not again.estimated


@pytest.fixture
def request_for():
    return request("Name a colour. " * 5, model=MODEL_NAME, max_output_tokens=8)


def test_a_schema_is_enforced_on_the_chat_protocol(local):
    ports = Ports(model=local, tools=BUILTIN_TOOLS)

    outcome = run_agent(config("local", output_schema=SCHEMA), inputs={}, ports=ports)

    assert outcome.output["colour"] in ("red", "blue")
    assert isinstance(outcome.output["count"], int)


def test_a_server_that_ignores_the_schema_is_found_out(messages_api):
    # llama.cpp's Messages endpoint takes no output format, unlike the vendor's own.
    ports = Ports(model=messages_api, tools=BUILTIN_TOOLS)

    with pytest.raises(OutputInvalidError):
        run_agent(config("anthropic", output_schema=SCHEMA), inputs={}, ports=ports)


def test_the_output_bound_holds(local):
    ask = request(
        "Tell me a long story about the sea.",
        model=MODEL_NAME,
        max_output_tokens=5,
        parameters={"temperature": 0},
    )

    reply = local.complete(ask)

    assert reply.finish_reason is FinishReason.LENGTH
    assert reply.usage.output_tokens == 5


def test_too_long_a_prompt_is_told_as_such(local, messages_api):
    for provider in (local, messages_api):
        with pytest.raises(ProviderError) as caught:
            provider.complete(request("word " * 6000, model=MODEL_NAME))
        assert caught.value.kind is ProviderErrorKind.CONTEXT_TOO_LONG


def test_a_check_passes(smollm2_url):
    result = check(settings_for("local", f"{smollm2_url}/v1", default_model=MODEL_NAME))

    assert (result.reachable, result.ok) == (True, True)


def test_a_check_at_a_wrong_path_reaches_someone(smollm2_url):
    result = check(settings_for("local", f"{smollm2_url}/v7", default_model=MODEL_NAME))

    assert (result.reachable, result.ok) == (True, False)
