"""Both SDKs against a third party's implementation of the protocols and their faults."""

import pytest
from llmock.scenarios import Delay, Fail, Reply, ToolCall

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import FinishReason
from agents_app.providers.check import check
from tests.integration.agents_app.providers import KEY, client, request, settings_for

VENDORS = ("openai", "anthropic", "xai")


@pytest.fixture(params=VENDORS)
def vendor(request):
    return request.param


@pytest.fixture
def provider(vendor, llmock_server):
    return client(vendor, llmock_server.base_url(vendor))


def failure(provider, ask):
    with pytest.raises(ProviderError) as caught:
        provider.complete(ask)
    return caught.value


def test_a_call_gives_text_usage_and_names(provider, vendor, llmock_server):
    llmock_server.state.scenarios.add(Reply(text="Hello, Acme."))

    reply = provider.complete(request(parameters={"temperature": 0.1}))

    assert (reply.text, reply.finish_reason) == ("Hello, Acme.", FinishReason.STOP)
    assert (reply.provider, reply.model) == (vendor, "mock-model")
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 0
    assert not reply.estimated
    assert reply.request_id


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ("length", FinishReason.LENGTH),
        ("content_filter", FinishReason.REFUSED),
        ("odd", FinishReason.UNKNOWN),
    ],
)
def test_finish_reasons_mean_the_same_for_all(provider, llmock_server, stated, reason):
    llmock_server.state.scenarios.add(Reply(text="Hm.", finish_reason=stated))

    assert provider.complete(request()).finish_reason is reason


def test_a_tool_call_nobody_asked_for_is_told(provider, llmock_server):
    llmock_server.state.scenarios.add(Reply(tool_calls=(ToolCall("launch", {}),)))

    assert provider.complete(request()).finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, ProviderErrorKind.INVALID_REQUEST, False),
        (401, ProviderErrorKind.AUTH, False),
        (403, ProviderErrorKind.PERMISSION, False),
        (404, ProviderErrorKind.NOT_FOUND, False),
        (408, ProviderErrorKind.TIMEOUT, True),
        (413, ProviderErrorKind.CONTEXT_TOO_LONG, False),
        (500, ProviderErrorKind.SERVER, True),
        (502, ProviderErrorKind.SERVER, True),
        (503, ProviderErrorKind.OVERLOADED, True),
        (529, ProviderErrorKind.OVERLOADED, True),
    ],
)
def test_statuses_become_kinds(provider, vendor, llmock_server, status, kind, retryable):
    llmock_server.state.scenarios.add(Fail(status))

    error = failure(provider, request())

    assert (error.kind, error.retryable, error.status) == (kind, retryable, status)
    assert error.provider == vendor


def test_rate_limits_carry_the_wait(provider, llmock_server):
    llmock_server.state.scenarios.add(Fail(429, retry_after=7))

    error = failure(provider, request())

    assert (error.kind, error.retry_after_seconds) == (ProviderErrorKind.RATE_LIMITED, 7)
    assert not error.in_doubt


def test_an_exhausted_account_is_not_a_rate_limit(llmock_server):
    llmock_server.state.scenarios.add(Fail(429, code="insufficient_quota"))

    error = failure(client("openai", llmock_server.base_url("openai")), request())

    assert (error.kind, error.retryable) == (ProviderErrorKind.QUOTA_EXHAUSTED, False)


def test_the_sdk_never_tries_again_by_itself(provider, llmock_server):
    llmock_server.state.scenarios.add(Fail(503))

    failure(provider, request())

    # A second try by the SDK would have taken this one's place.
    llmock_server.state.scenarios.add(Reply(text="second"))
    assert provider.complete(request()).text == "second"


def test_errors_never_hold_the_key(provider, llmock_server):
    llmock_server.state.scenarios.add(Fail(401, message=f"Incorrect API key provided: {KEY}"))

    error = failure(provider, request("my secret prompt"))

    assert KEY not in repr(error)
    assert "secret prompt" not in str(error)
    assert error.__suppress_context__


def test_a_late_answer_is_a_timeout_in_doubt(provider, llmock_server):
    llmock_server.state.scenarios.add(Delay(2))

    error = failure(provider, request(deadline_seconds=0.2))

    assert (error.kind, error.in_doubt) == (ProviderErrorKind.TIMEOUT, True)


def test_a_check_asks_for_one_word(vendor, llmock_server):
    settings = settings_for(vendor, llmock_server.base_url(vendor), default_model="mock-model")

    result = check(settings)

    assert (result.reachable, result.ok, result.detail) == (True, True, "answered")
    assert result.usage.total_tokens > 0


def test_a_check_without_a_model_lists_them(vendor, llmock_server):
    result = check(settings_for(vendor, llmock_server.base_url(vendor)))

    assert result.ok
    assert result.detail.endswith("models listed")
    assert result.usage is None


def test_a_check_tells_a_wrong_key_from_a_dead_server(vendor, llmock_server):
    llmock_server.state.scenarios.add(Fail(401))
    refused = check(settings_for(vendor, llmock_server.base_url(vendor), default_model="m"))
    dead = check(settings_for(vendor, "http://127.0.0.1:9", default_model="m"))

    assert (refused.reachable, refused.ok) == (True, False)
    assert "auth (401)" in refused.detail
    assert (dead.reachable, dead.ok) == (False, False)
    assert "cannot connect" in dead.detail
