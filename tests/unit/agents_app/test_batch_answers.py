"""What vendors say of the requests in a batch, brought to replies and errors."""

import json
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import Message, ModelReply, ModelRequest
from agents_app.providers.base import ProviderKind, ProviderSettings, vendor_client
from agents_app.providers.batches import BatchClient, BatchedAnswer

Kind = ProviderErrorKind
SECONDS = 5.0
COMPLETION = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-2024-11-20",
    "choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 1},
}
Answers = Mapping[str, Any]


class Vendor:
    """Answers each path as it is told, and keeps the bodies that it was sent."""

    def __init__(self, kind: str, answers: Answers) -> None:
        self.answers = answers
        self.sent: dict[str, bytes] = {}
        self.model = "gpt-4o" if kind == "openai" else "claude-haiku-4-5"
        self.kind = kind
        url = "http://vendor.invalid/v1" if kind == "openai" else "http://vendor.invalid"
        client: Any = vendor_client(
            ProviderSettings(name=kind, kind=ProviderKind(kind), base_url=url, api_key="sk-test")
        )
        transport = httpx2.MockTransport(self._respond)
        client._client = client._client.with_options(http_client=httpx2.Client(transport=transport))
        self.batches: BatchClient = client.batches

    def request(self, **facts: Any) -> ModelRequest:
        messages = (Message("user", "Hello \u2028 there"),)
        return ModelRequest(provider=self.kind, model=self.model, messages=messages, **facts)

    def asked(self, *ids: str) -> dict[str, BatchedAnswer]:
        requests = {id: self.request() for id in ids}
        found = self.batches.answers("batch_1", requests, deadline_seconds=SECONDS)
        return {answer.id: answer for answer in found}

    def _respond(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        self.sent[path] = request.read()
        answer = self.answers[path]
        if isinstance(answer, list):
            return httpx2.Response(200, text="\n".join(map(json.dumps, answer)))
        return httpx2.Response(200, json=answer)


def openai(*lines: Any, errors: list[Any] | None = None, status: str = "completed") -> Vendor:
    batch = {"id": "batch_1", "status": status, "output_file_id": "out", "error_file_id": "err"}
    return Vendor(
        "openai",
        {
            "/v1/batches/batch_1": batch,
            "/v1/files/out/content": list(lines),
            "/v1/files/err/content": errors or [],
        },
    )


def anthropic(*lines: Any) -> Vendor:
    return Vendor("anthropic", {"/v1/messages/batches/batch_1/results": list(lines)})


def answered(id: str, body: Any = COMPLETION, status: int = 200) -> dict[str, Any]:
    response = {"status_code": status, "request_id": f"req-{id}", "body": body}
    return {"id": "x", "custom_id": id, "response": response, "error": None}


def result(id: str, **told: Any) -> dict[str, Any]:
    return {"custom_id": id, "result": told}


def errored(id: str, kind: str, message: str = "no") -> dict[str, Any]:
    error = {"type": "error", "error": {"type": kind, "message": message}}
    return result(id, type="errored", error=error)


def reply_of(answer: BatchedAnswer) -> ModelReply:
    assert isinstance(answer.outcome, ModelReply)
    return answer.outcome


def error_of(answer: BatchedAnswer) -> ProviderError:
    assert isinstance(answer.outcome, ProviderError)
    return answer.outcome


@pytest.mark.parametrize(
    "vendor",
    [openai(answered("a")), anthropic(result("a", type="succeeded", message=MESSAGE))],
    ids=["openai", "anthropic"],
)
def test_answer_is_read_as_if_it_had_been_asked_for_alone(vendor: Vendor) -> None:
    reply = reply_of(vendor.asked("a")["a"])

    assert (reply.text, reply.finish_reason) == ("Hi", "stop")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (5, 1)
    assert not reply.estimated


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (answered("a", {"error": {"message": "slow", "code": "x"}}, 429), Kind.RATE_LIMITED),
        (answered("a", {"error": {"message": "bad", "type": "y"}}, 400), Kind.INVALID_REQUEST),
        (
            answered("a", {"error": {"message": "!", "code": "context_length_exceeded"}}, 400),
            Kind.CONTEXT_TOO_LONG,
        ),
        ({"custom_id": "a", "response": None, "error": {"code": "batch_expired"}}, Kind.TIMEOUT),
        ({"custom_id": "a", "response": None, "error": {"code": "batch_cancelled"}}, Kind.SERVER),
        ({"custom_id": "a", "response": None, "error": {"message": "?"}}, Kind.SERVER),
    ],
    ids=["busy", "invalid", "too long", "expired", "cancelled", "unknown"],
)
def test_refused_request_of_openai_costs_nothing(line: Any, kind: ProviderErrorKind) -> None:
    error = error_of(openai(errors=[line]).asked("a")["a"])

    assert (error.kind, error.in_doubt) == (kind, False)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (errored("a", "invalid_request_error"), Kind.INVALID_REQUEST),
        (errored("a", "invalid_request_error", "prompt is too long: 9"), Kind.CONTEXT_TOO_LONG),
        (errored("a", "overloaded_error"), Kind.OVERLOADED),
        (errored("a", "api_error"), Kind.SERVER),
        (errored("a", "rate_limit_error"), Kind.RATE_LIMITED),
        (result("a", type="expired"), Kind.TIMEOUT),
        (result("a", type="canceled"), Kind.SERVER),
        (result("a", type="something new"), Kind.SERVER),
    ],
)
def test_refused_request_of_anthropic_costs_nothing(line: Any, kind: ProviderErrorKind) -> None:
    error = error_of(anthropic(line).asked("a")["a"])

    assert (error.kind, error.in_doubt) == (kind, False)


@pytest.mark.parametrize(
    "vendor",
    [openai(answered("a", {"choices": "?"})), anthropic(result("a", type="succeeded"))],
    ids=["openai", "anthropic"],
)
def test_answer_that_nobody_can_read_is_in_doubt(vendor: Vendor) -> None:
    error = error_of(vendor.asked("a")["a"])

    assert (error.kind, error.in_doubt) == (Kind.PROTOCOL, True)


@pytest.mark.parametrize(
    ("status", "kind"), [("expired", Kind.TIMEOUT), ("cancelled", Kind.SERVER)]
)
def test_requests_that_an_ended_batch_does_not_name_ended_with_it(
    status: str, kind: ProviderErrorKind
) -> None:
    answers = openai(answered("a"), status=status).asked("a", "b")

    assert reply_of(answers["a"]).text == "Hi"
    assert error_of(answers["b"]).kind is kind


def test_request_without_an_answer_is_left_open() -> None:
    assert openai(answered("a")).asked("a", "b").keys() == {"a"}
    assert anthropic().asked("a") == {}


def test_line_that_is_no_json_is_an_error_for_all() -> None:
    vendor = openai()
    vendor.answers = {**vendor.answers, "/v1/files/out/content": ["text"]}

    with pytest.raises(ProviderError):
        vendor.asked("a")


def test_batch_that_openai_refuses_as_a_whole_says_why() -> None:
    errors = {"data": [{"code": "invalid_json_line", "message": "line 1 is no JSON", "line": 1}]}
    batch = {"id": "batch_1", "status": "failed", "errors": errors}
    vendor = Vendor("openai", {"/v1/batches/batch_1": batch})

    state = vendor.batches.state("batch_1", deadline_seconds=SECONDS)

    assert state.error is not None
    assert (state.error.kind, state.error.in_doubt) == (Kind.INVALID_REQUEST, False)
    assert "line 1" in str(state.error)


def test_openai_gets_a_line_for_each_request_and_a_key_to_find_the_batch_by() -> None:
    vendor = Vendor("openai", {"/v1/files": {"id": "file-1"}, "/v1/batches": {"id": "batch_1"}})
    requests = {id: vendor.request(max_output_tokens=9) for id in ("a", "b")}

    assert vendor.batches.submit("key", requests, deadline_seconds=SECONDS) == "batch_1"

    lines = [json.loads(line) for line in vendor.sent["/v1/files"].split(b"\n") if b'"url"' in line]
    assert [(line["custom_id"], line["url"]) for line in lines] == [
        ("a", "/v1/chat/completions"),
        ("b", "/v1/chat/completions"),
    ]
    assert lines[0]["body"]["max_completion_tokens"] == 9
    made = json.loads(vendor.sent["/v1/batches"])
    assert (made["input_file_id"], made["metadata"]) == ("file-1", {"muster_batch": "key"})


def test_parameters_outside_the_sdk_stand_in_the_body_itself() -> None:
    vendor = Vendor("anthropic", {"/v1/messages/batches": {"id": "batch_1"}})
    requests = {"a": vendor.request(parameters={"top_k": 4})}

    vendor.batches.submit("key", requests, deadline_seconds=SECONDS)

    (entry,) = json.loads(vendor.sent["/v1/messages/batches"])["requests"]
    assert entry["params"]["top_k"] == 4
    assert "extra_body" not in entry["params"]
