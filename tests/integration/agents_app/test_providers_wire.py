"""What leaves on the wire, and what happens when a server does its worst."""

import gzip
import itertools
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import FinishReason
from agents_app.providers import transport
from tests.integration.agents_app.providers import KEY, client, request
from tests.model_servers import http, raw_server

CHAT = {
    "id": "chat-1",
    "model": "mock-model",
    "choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
MESSAGE = {
    "id": "msg-1",
    "model": "mock-model",
    "content": [{"type": "text", "text": "Hi."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 2},
}
ANSWERS = {"openai": CHAT, "anthropic": MESSAGE}
SCHEMA = {
    "type": "object",
    "required": ["colour"],
    "additionalProperties": False,
    "properties": {"colour": {"type": "string"}},
}


@pytest.fixture(params=["openai", "anthropic"])
def vendor(request):
    return request.param


def answering(raw):
    return lambda server, connection, asked: connection.sendall(raw)


def saying(vendor, text):
    if vendor == "anthropic":
        return {**MESSAGE, "content": [{"type": "text", "text": text}]}
    return {**CHAT, "choices": [{"message": {"content": text}, "finish_reason": "stop"}]}


def sent_body(server):
    return json.loads(server.requests[0].partition(b"\r\n\r\n")[2])


def failure(vendor, server, **changes):
    with pytest.raises(ProviderError) as caught:
        client(vendor, server.url).complete(request(**changes))
    return caught.value


def test_openai_gets_its_own_names():
    ask = request(
        system="Be brief.",
        parameters={"temperature": 0.1, "stop": ["END"], "top_k": 3},
        output_schema=SCHEMA,
    )
    with raw_server(answering(http(CHAT))) as server:
        client("openai", server.url).complete(ask)

    body = sent_body(server)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["max_completion_tokens"] == 50
    assert body["response_format"]["json_schema"]["strict"] is True
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert (body["temperature"], body["stop"]) == (0.1, ["END"])
    assert "top_k" not in body


def test_compatible_servers_get_the_older_limit_and_their_own_sampling():
    with raw_server(answering(http(CHAT))) as server:
        client("compatible", server.url).complete(request(parameters={"top_k": 3}))

    body = sent_body(server)
    assert (body["max_tokens"], body["top_k"]) == (50, 3)
    assert "max_completion_tokens" not in body


def test_an_open_schema_is_not_claimed_to_be_strict():
    with raw_server(answering(http(CHAT))) as server:
        client("openai", server.url).complete(request(output_schema={"type": "object"}))

    assert sent_body(server)["response_format"]["json_schema"]["strict"] is False


def test_anthropic_gets_its_own_names():
    ask = request(
        system="Be brief.",
        parameters={"temperature": 0.1, "stop": "END", "seed": 1},
        output_schema=SCHEMA,
    )
    with raw_server(answering(http(MESSAGE))) as server:
        client("anthropic", server.url).complete(ask)

    body = sent_body(server)
    assert (body["system"], body["max_tokens"]) == ("Be brief.", 50)
    assert (body["temperature"], body["stop_sequences"]) == (0.1, ["END"])
    assert body["output_config"]["format"]["type"] == "json_schema"
    assert body["output_config"]["format"]["schema"]["required"] == ["colour"]
    assert "seed" not in body


def test_no_trace_leaves_and_no_prompt_is_logged(vendor, caplog):
    caplog.set_level(logging.DEBUG)
    with raw_server(answering(http(ANSWERS[vendor]))) as server:
        client(vendor, server.url).complete(request("my secret prompt"))

    assert b"traceparent" not in server.requests[0].lower()
    assert "secret prompt" not in caplog.text
    assert KEY not in caplog.text


def test_the_limits_that_a_provider_states_are_kept(vendor):
    stated = ("X-RateLimit-Remaining-Requests: 41", "Anthropic-RateLimit-Tokens-Remaining: 9000")
    with raw_server(answering(http(ANSWERS[vendor], headers=stated))) as server:
        reply = client(vendor, server.url).complete(request())

    assert reply.limits == {
        "x-ratelimit-remaining-requests": "41",
        "anthropic-ratelimit-tokens-remaining": "9000",
    }


def test_missing_usage_is_estimated(vendor):
    body = {name: value for name, value in ANSWERS[vendor].items() if name != "usage"}
    with raw_server(answering(http(body))) as server:
        reply = client(vendor, server.url).complete(request())

    assert reply.estimated
    assert reply.usage.input_tokens > 0


@pytest.mark.parametrize("choices", [[], [None], [{}], [{"message": "text"}], [{"message": None}]])
def test_an_answer_without_a_message_is_not_trusted_but_kept(choices):
    with raw_server(answering(http({**CHAT, "choices": choices}))) as server:
        reply = client("openai", server.url).complete(request())

    assert (reply.text, reply.finish_reason) == ("", FinishReason.UNKNOWN)
    assert reply.usage.total_tokens == 7


def test_a_refusal_is_a_refusal_whatever_the_finish_reason_says():
    choice = {"message": {"content": None, "refusal": "I cannot."}, "finish_reason": "stop"}
    with raw_server(answering(http({**CHAT, "choices": [choice]}))) as server:
        reply = client("openai", server.url).complete(request())

    assert reply.finish_reason is FinishReason.REFUSED


def test_text_that_cannot_be_stored_is_replaced():
    choice = {"message": {"content": "a\x00b\ud800"}, "finish_reason": "stop"}
    with raw_server(answering(http({**CHAT, "choices": [choice]}))) as server:
        reply = client("openai", server.url).complete(request())

    assert reply.text == "a\ufffdb\ufffd"


@pytest.mark.parametrize(
    "body",
    [b"<html>login</html>", b"", b"[1]", b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000, b"{}"],
    ids=["page", "empty", "list", "cut", "bytes", "nan", "deep", "bare"],
)
def test_an_answer_in_another_form_is_a_protocol_error(vendor, body):
    with raw_server(answering(http(body))) as server:
        error = failure(vendor, server)

    assert (error.kind, error.in_doubt) == (ProviderErrorKind.PROTOCOL, True)
    assert not error.retryable


def test_an_error_inside_a_success_is_an_error(vendor):
    with raw_server(answering(http({"error": {"message": "upstream is down"}}))) as server:
        error = failure(vendor, server)

    assert "upstream is down" in str(error)


def test_a_redirect_does_not_carry_the_key_away(vendor):
    with raw_server(answering(http(ANSWERS[vendor]))) as elsewhere:
        moved = http(b"", status="307 Moved", headers=(f"Location: {elsewhere.url}/v1",))
        with raw_server(answering(moved)) as server:
            error = failure(vendor, server)

    assert error.kind is ProviderErrorKind.PROTOCOL
    assert elsewhere.requests == []


def test_a_web_page_is_not_quoted_as_a_reason(vendor):
    page = http(b"<html>secret</html>", status="502 Bad Gateway")
    with raw_server(answering(page)) as server:
        error = failure(vendor, server)

    assert error.detail == "HTTP 502 without a message"
    assert error.in_doubt


def test_a_connection_that_breaks_is_in_doubt(vendor):
    whole = http(ANSWERS[vendor])
    with raw_server(answering(whole[:-10])) as server:
        error = failure(vendor, server)

    assert (error.kind, error.in_doubt) == (ProviderErrorKind.CONNECTION, True)


def test_a_call_that_was_never_sent_is_not_in_doubt(vendor):
    with pytest.raises(ProviderError) as caught:
        client(vendor, "http://127.0.0.1:9").complete(request())

    assert (caught.value.kind, caught.value.in_doubt) == (ProviderErrorKind.CONNECTION, False)
    assert "Connection refused" in str(caught.value)


def test_a_name_that_does_not_resolve_cannot_be_connected_to(vendor):
    with pytest.raises(ProviderError, match="cannot resolve"):
        client(vendor, "http://nowhere.invalid").complete(request())


@pytest.mark.parametrize("where", ["head", "body", "silence"])
def test_the_deadline_holds_against_a_server_that_drips(vendor, where):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    opening = {"head": head, "body": head + b"Content-Length: 90000\r\n\r\n", "silence": b""}
    drop = {"head": b"X", "body": b" ", "silence": b""}

    def drip(server, connection, asked):
        parts = itertools.chain([opening[where]], itertools.repeat(drop[where]))
        server.drip(connection, parts, every=0.05)

    started = time.monotonic()
    with raw_server(drip) as server:
        error = failure(vendor, server, deadline_seconds=0.6)
        took = time.monotonic() - started

    assert (error.kind, error.in_doubt) == (ProviderErrorKind.TIMEOUT, True)
    assert 0.5 < took < 1.5


def test_a_compressed_answer_is_refused(vendor):
    bomb = gzip.compress(json.dumps(ANSWERS[vendor]).encode())
    with raw_server(answering(http(bomb, headers=("Content-Encoding: gzip",)))) as server:
        error = failure(vendor, server)

    assert "the answer is compressed" in str(error)


def test_an_endless_answer_is_cut(vendor, monkeypatch):
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 100_000)
    with raw_server(answering(http(b" " * 200_000))) as server:
        error = failure(vendor, server)

    assert "the answer is too large" in str(error)


def test_threads_share_a_client_without_mixing_answers(vendor):
    def repeat_the_question(server, connection, asked):
        question = json.loads(asked.partition(b"\r\n\r\n")[2])["messages"][-1]["content"]
        connection.sendall(http(saying(vendor, question)))

    questions = [f"question {number}" for number in range(40)]
    with raw_server(repeat_the_question) as server, ThreadPoolExecutor(20) as threads:
        provider = client(vendor, server.url)
        replies = threads.map(lambda question: provider.complete(request(question)), questions)

        assert [reply.text for reply in replies] == questions


def test_connections_are_kept_and_shared_by_credentials():
    kept = []

    def serve_two(server, connection, asked):
        kept.append(connection)
        whole = http(CHAT).replace(b"Connection: close\r\n", b"")
        connection.sendall(whole)
        connection.recv(65536)
        connection.sendall(whole)

    with raw_server(serve_two) as server:
        for key in ("sk-acme-1234567", "sk-globex-1234567"):
            provider = client("openai", server.url, api_key=key)
            provider.complete(request())

    assert len(kept) == 1
