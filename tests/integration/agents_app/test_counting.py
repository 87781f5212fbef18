"""How many tokens a request is, by its provider or by a guess."""

import json

import pytest

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import Message, TokenCount
from tests.integration.agents_app.providers import client, request
from tests.mock_vendors import WEATHER
from tests.model_servers import MODEL_NAME, http, raw_server


def counted(kind, body):
    with raw_server(lambda _, connection, asked: connection.sendall(http(body))) as server:
        count = client(kind, server.url).count_tokens(
            request(system="Be brief.", tools=(WEATHER,), parameters={"temperature": 1})
        )
    return count, server.requests


def test_anthropic_counts_by_its_own_call():
    count, (asked,) = counted("anthropic", {"input_tokens": 321})

    assert count == TokenCount(tokens=321, is_estimate=False)
    head, _, body = asked.partition(b"\r\n\r\n")
    assert b"/v1/messages/count_tokens" in head
    assert json.loads(body).keys() == {"model", "messages", "system", "tools"}


@pytest.mark.parametrize("body", [{}, {"input_tokens": True}, {"input_tokens": -1}])
def test_a_count_that_is_none_is_a_protocol_error(body):
    with pytest.raises(ProviderError) as caught:
        counted("anthropic", body)

    assert caught.value.kind is ProviderErrorKind.PROTOCOL


@pytest.mark.parametrize("kind", ["openai", "compatible"])
def test_others_are_estimated_without_asking_anybody(kind):
    count, asked = counted(kind, {})

    assert (count.is_estimate, asked) == (True, [])
    assert count.tokens > 20


def test_a_real_model_counts_what_it_then_reads(smollm2_url):
    ask = request(model=MODEL_NAME, system="Be brief.", max_output_tokens=1)
    ask_more = request("Tell me of Rome. " * 20, model=MODEL_NAME, max_output_tokens=1)
    local = client("local", f"{smollm2_url}/v1")

    for each in (ask, ask_more):
        count = local.count_tokens(each)
        assert not count.is_estimate
        assert count.tokens == local.complete(each).usage.input_tokens


def test_the_server_counts_for_the_other_protocol_too(smollm2_url):
    ask = request(model=MODEL_NAME, messages=(Message("user", "Hello."),), max_output_tokens=1)
    messages_api = client("anthropic", smollm2_url)

    assert messages_api.count_tokens(ask).tokens == messages_api.complete(ask).usage.input_tokens
