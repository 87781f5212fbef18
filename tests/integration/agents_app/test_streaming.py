"""Answers as streams: whole ones, those that break off, and servers that cannot stream."""

import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from llmock.scenarios import Reply, StreamFault
from llmock.scenarios import ToolCall as Scripted

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import FinishReason
from agents_app.providers.hearing import heard_by
from agents_app.providers.transport import cut_short_when
from tests.integration.agents_app.providers import client, request
from tests.mock_vendors import WEATHER
from tests.model_servers import MODEL_NAME, http, raw_server

CHUNKS = [
    {"id": "chat-1", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant"}}]},
    {"choices": [{"index": 0, "delta": {"content": "Hel"}}]},
    {"choices": [{"index": 0, "delta": {"content": "lo."}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}},
]
EVENTS = [
    {
        "type": "message_start",
        "message": {"id": "m1", "model": "m", "content": [], "usage": {"input_tokens": 5}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo."}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 2},
    },
    {"type": "message_stop"},
]
STREAMS = {"openai": CHUNKS, "anthropic": EVENTS}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@pytest.fixture(params=["openai", "anthropic"])
def vendor(request):
    return request.param


def events(bodies, *, ends=b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: " + json.dumps(body).encode() + b"\n\n" for body in bodies) + ends


def saying(raw: bytes):
    return lambda server, connection, asked: connection.sendall(HEAD + raw)


def streamed(vendor, url, **changes):
    heard: list[str] = []
    with heard_by(heard.append):
        reply = client(vendor, url).complete(request(**changes))
    return reply, heard


def failure(vendor, url, **changes) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        streamed(vendor, url, **changes)
    return caught.value


def body_of(asked: bytes) -> Mapping[str, Any]:
    return json.loads(asked.partition(b"\r\n\r\n")[2])


def test_text_is_heard_as_it_comes_and_the_reply_is_whole(vendor):
    with raw_server(saying(events(STREAMS[vendor]))) as server:
        reply, heard = streamed(vendor, server.url)

    assert heard == ["Hel", "lo."]
    assert (reply.text, reply.finish_reason) == ("Hello.", FinishReason.STOP)
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.estimated) == (5, 2, False)


def test_connection_behind_a_stream_is_not_used_again(vendor):
    # Some servers end it without a word; a call that was just sent on it would be in doubt.
    with raw_server(saying(events(STREAMS[vendor]))) as server:
        streamed(vendor, server.url)
        with pytest.raises(ProviderError):  # it answers with a stream all the same
            client(vendor, server.url).complete(request())

    stream, plain = server.requests
    assert b"connection: close" in stream.lower()
    assert b"connection: close" not in plain.lower()


def test_whom_nobody_hears_is_not_asked_for_a_stream(vendor):
    with raw_server(saying(b"")) as server, pytest.raises(ProviderError):
        client(vendor, server.url).complete(request())

    assert not body_of(server.requests[0]).get("stream")


@pytest.mark.parametrize("size", [1, 7])
def test_pieces_of_the_network_are_not_pieces_of_the_text(vendor, size):
    raw = HEAD + events(STREAMS[vendor]).replace(b"\n", b"\r\n")

    def drip(server, connection, asked):
        parts = (raw[at : at + size] for at in range(0, len(raw), size))
        server.drip(connection, parts, every=0.0001)

    with raw_server(drip) as server:
        reply, heard = streamed(vendor, server.url)

    assert ("".join(heard), reply.usage.output_tokens) == ("Hello.", 2)


@pytest.mark.parametrize("kept", [1, 3])
def test_a_stream_that_ends_early_is_no_answer(vendor, kept):
    with raw_server(saying(events(STREAMS[vendor][:kept], ends=b""))) as server:
        error = failure(vendor, server.url)

    assert (error.kind, error.in_doubt) == (ProviderErrorKind.CONNECTION, True)
    assert error.retryable


def test_usage_that_never_comes_is_estimated(vendor):
    without = [
        {name: part for name, part in body.items() if name != "usage"}
        for body in STREAMS[vendor]
        if body.get("choices") != []
    ]
    if vendor == "anthropic":
        without[0] = {"type": "message_start", "message": {"id": "m1", "model": "m"}}
    with raw_server(saying(events(without))) as server:
        reply, _ = streamed(vendor, server.url)

    assert (reply.text, reply.estimated) == ("Hello.", True)


@pytest.mark.parametrize(
    ("stated", "kind"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, ProviderErrorKind.OVERLOADED),
        ({"message": "upstream broke"}, ProviderErrorKind.SERVER),
        ("upstream broke", ProviderErrorKind.SERVER),
    ],
)
def test_an_error_in_the_middle_is_an_error(vendor, stated, kind):
    raw = events([*STREAMS[vendor][:3], {"type": "error", "error": stated}], ends=b"")
    with raw_server(saying(raw)) as server:
        error = failure(vendor, server.url)

    assert (error.kind, error.in_doubt) == (kind, True)


@pytest.mark.parametrize("bad", [b"{", b"[1]", b"[" * 100_000, b"\xff\xfe", b'{"a": NaN}'])
def test_what_is_no_event_is_a_protocol_error(vendor, bad):
    with raw_server(saying(b"data: " + bad + b"\n\n")) as server:
        error = failure(vendor, server.url)

    assert (error.kind, error.in_doubt) == (ProviderErrorKind.PROTOCOL, True)


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": None},
        {"choices": [None]},
        {"choices": [{"delta": "text"}]},
        {"choices": [{"delta": {"content": 7, "tool_calls": ["x", {"function": 1}]}}]},
        {"type": "content_block_delta", "index": "0", "delta": {"text": "x"}},
        {"type": "content_block_start", "index": 3, "content_block": None},
        {"type": ["message_stop"]},
    ],
)
def test_odd_pieces_are_passed_over(vendor, odd):
    whole = STREAMS[vendor]
    with raw_server(saying(events([whole[0], odd, *whole[1:]]))) as server:
        reply, _ = streamed(vendor, server.url)

    assert reply.text == "Hello."


def test_a_server_that_answers_in_one_piece_is_understood(vendor):
    answers = {
        "openai": {"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}]},
        "anthropic": {"content": [{"type": "text", "text": "Hi."}], "stop_reason": "end_turn"},
    }
    whole = http(answers[vendor])
    with raw_server(lambda server, connection, asked: connection.sendall(whole)) as server:
        reply, heard = streamed(vendor, server.url)

    assert (reply.text, heard) == ("Hi.", [])


@pytest.mark.parametrize(
    ("refused", "asked_again"),
    [("stream_options", [True, True, True]), ("stream", [True, None, None])],
)
def test_a_server_that_refuses_streams_is_asked_as_it_can_answer(refused, asked_again):
    def answer(server, connection, asked):
        body = body_of(asked)
        if refused in body:
            told = {"error": {"message": f"unknown field {refused!r}"}}
            connection.sendall(http(told, status="400 Bad Request"))
        elif body.get("stream"):
            connection.sendall(HEAD + events(CHUNKS))
        else:
            choice = {"message": {"content": "Hello."}, "finish_reason": "stop"}
            connection.sendall(http({"choices": [choice]}))

    with raw_server(answer) as server:
        first, _ = streamed("compatible", server.url)
        again, _ = streamed("compatible", server.url)

    assert (first.text, again.text) == ("Hello.", "Hello.")
    assert [body_of(each).get("stream") for each in server.requests] == asked_again


def test_a_call_that_is_cut_short_ends_although_it_is_streamed(vendor):
    is_over = threading.Event()

    def drip(server, connection, asked):
        text = events(STREAMS[vendor][1:3], ends=b"")
        server.drip(connection, iter([HEAD, *[text] * 1000]), every=0.01)

    heard: list[str] = []

    def hear(text: str) -> None:
        heard.append(text)
        is_over.set()

    with (
        raw_server(drip) as server,
        heard_by(hear),
        cut_short_when(is_over.is_set),
        pytest.raises(ProviderError) as caught,
    ):
        client(vendor, server.url).complete(request())

    assert (caught.value.kind, caught.value.in_doubt) == (ProviderErrorKind.TIMEOUT, True)
    assert len(heard) < 50


def test_a_stream_that_stands_still_ends_at_the_deadline(vendor):
    def stall(server, connection, asked):
        connection.sendall(HEAD + events(STREAMS[vendor][:3], ends=b""))
        server.stopping.wait(10)

    with raw_server(stall) as server:
        error = failure(vendor, server.url, deadline_seconds=0.4)

    assert (error.kind, error.in_doubt) == (ProviderErrorKind.TIMEOUT, True)


def test_calls_that_come_in_pieces_are_put_together():
    pieces: list[dict[str, Any]] = [
        {"index": 0, "id": "a", "function": {"name": "get_weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"location":'}},
        {"index": 1, "id": "b", "function": {"name": "get_weather", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": ' "Rome"}'}},
        # As some servers do: the same number for another call, and the object as it is.
        {"index": 0, "id": "c", "function": {"name": "get_time", "arguments": {"zone": "X"}}},
    ]
    chunks = [{"choices": [{"delta": {"tool_calls": [piece]}}]} for piece in pieces]
    thought = [{"choices": [{"delta": {"reasoning_content": text}}]} for text in ("I ", "think")]
    ending = {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}
    with raw_server(saying(events([*thought, *chunks, ending]))) as server:
        reply, heard = streamed("compatible", server.url, tools=(WEATHER,))

    assert [(call.id, call.arguments) for call in reply.tool_calls] == [
        ("a", {"location": "Rome"}),
        ("b", {}),
        ("c", {"zone": "X"}),
    ]
    assert reply.opaque is not None
    assert reply.opaque.content["message"] == {"reasoning_content": "I think"}
    assert heard == []


def test_thinking_comes_back_signed_and_nobody_hears_it():
    def block(at: int, start: dict[str, Any], *deltas: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"type": "content_block_start", "index": at, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": at, "delta": delta}

    blocks = [
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "Rome "},
            {"type": "thinking_delta", "thinking": "it is"},
            {"type": "signature_delta", "signature": "c2ln"},
        ),
        *block(
            1,
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"location"'},
            {"type": "input_json_delta", "partial_json": ': "Rome"}'},
        ),
        *block(2, {"type": "tool_use", "id": "toolu_2", "name": "get_weather", "input": {}}),
    ]
    ending = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}}
    whole = [EVENTS[0], *blocks, ending, EVENTS[-1]]
    with raw_server(saying(events(whole, ends=b""))) as server:
        reply, heard = streamed("anthropic", server.url, tools=(WEATHER,))

    assert [call.arguments for call in reply.tool_calls] == [{"location": "Rome"}, {}]
    assert reply.opaque is not None
    assert reply.opaque.content[0] == {
        "type": "thinking",
        "thinking": "Rome it is",
        "signature": "c2ln",
    }
    assert heard == []


def test_a_call_that_was_cut_keeps_what_was_written_of_it():
    blocks = [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "t", "name": "get_weather", "input": {}},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": '{"loc'},
        },
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}},
    ]
    with raw_server(saying(events([EVENTS[0], *blocks], ends=b""))) as server:
        reply, _ = streamed("anthropic", server.url, tools=(WEATHER,))

    assert reply.finish_reason is FinishReason.LENGTH
    assert [call.arguments for call in reply.tool_calls] == ['{"loc']


@pytest.mark.parametrize("kind", ["openai", "anthropic", "xai"])
def test_another_ones_server_streams_text_and_calls(kind, llmock_server):
    text = "A few words, said in some pieces."
    call = Scripted("get_weather", {"location": "Rome"})
    llmock_server.state.scenarios.add(Reply(text=text), Reply(tool_calls=(call,)))
    url = llmock_server.base_url(kind)

    said, heard = streamed(kind, url)
    called, _ = streamed(kind, url, tools=(WEATHER,))

    assert ("".join(heard), said.text) == (text, text)
    assert len(heard) > 1
    assert not said.estimated
    assert (called.tool_calls[0].name, called.tool_calls[0].arguments) == (
        "get_weather",
        {"location": "Rome"},
    )


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("fault", ["disconnect", "truncate", "malformed"])
def test_another_ones_faults_are_failures_in_doubt(kind, fault, llmock_server):
    words = " ".join(["word"] * 30)
    llmock_server.state.scenarios.add(Reply(text=words), StreamFault(fault, after_chunks=3))

    error = failure(kind, llmock_server.base_url(kind))

    assert error.in_doubt
    assert error.kind in (ProviderErrorKind.CONNECTION, ProviderErrorKind.PROTOCOL)


@pytest.mark.parametrize("kind", ["local", "anthropic"])
def test_a_real_model_streams_what_it_would_say_in_one_piece(kind, smollm2_url):
    url = f"{smollm2_url}/v1" if kind == "local" else smollm2_url
    ask = {"model": MODEL_NAME, "parameters": {"temperature": 0}, "max_output_tokens": 20}

    reply, heard = streamed(kind, url, **ask)
    plain = client(kind, url).complete(request(**ask))

    assert len(heard) > 3
    assert "".join(heard) == reply.text == plain.text
    assert reply.usage.output_tokens == plain.usage.output_tokens
    assert (reply.finish_reason, reply.estimated) == (plain.finish_reason, False)
