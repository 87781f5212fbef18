"""Message Batches of Anthropic's: requests in one body, their answers in one file."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import anthropic
import httpx2

from agents_app.core import values
from agents_app.core.errors import ProviderError
from agents_app.core.model import ModelReply, ModelRequest
from agents_app.providers.answers import name_of, unreadable
from agents_app.providers.base import ProviderSettings
from agents_app.providers.batches import (
    CLOCK_SKEW_SECONDS,
    BatchedAnswer,
    BatchStage,
    BatchState,
    Found,
    Sent,
    cancelled,
    expired,
    lines_of,
    refused,
)
from agents_app.providers.calls import Answer, Raw, call, call_for_text

# By the names of Anthropic's errors: an entry of a batch has no status of its own.
_STATUS: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_ENDED: Final = "ended"
_PAGE: Final = 100
_ID: Final = re.compile(r"[\w-]{1,200}")


class AnthropicBatches:
    def __init__(
        self,
        client: anthropic.Anthropic,
        settings: ProviderSettings,
        *,
        arguments: Callable[[ModelRequest], dict[str, Any]],
        reply: Callable[..., ModelReply],
    ) -> None:
        self._client = client
        self._settings = settings
        self._name = settings.name
        self._arguments = arguments
        self._reply = reply

    def size_of(self, request: ModelRequest) -> int:
        return len(values.dump(self._entry("", request)).encode("utf-8", errors="replace"))

    def submit(
        self, key: str, requests: Mapping[str, ModelRequest], *, deadline_seconds: float
    ) -> str:
        """Anthropic has no place for the key: its batches are known by the requests in them."""
        entries: Any = [self._entry(id, request) for id, request in requests.items()]
        make = partial(self._client.messages.batches.with_raw_response.create, requests=entries)
        batch_id = name_of(self._call(make, deadline_seconds).get("id"))
        if not batch_id:
            raise unreadable("the answer has no id", self._name)
        return batch_id

    def find(self, sent: Sent, *, deadline_seconds: float) -> Found:
        """By its answers, which name its requests. As long as there are none, nobody can tell."""
        earliest = sent.began_at - timedelta(seconds=CLOCK_SKEW_SECONDS)
        is_certain = True
        for batch in self._newest_first(deadline_seconds):
            batch_id = name_of(batch.get("id"))
            if _made_at(batch) < earliest:
                break
            if batch_id in sent.known or _size(batch) != len(sent.ids):
                continue
            if batch.get("processing_status") != _ENDED:
                is_certain = False
            elif self._is_ours(batch_id, sent.ids, deadline_seconds):
                return Found(batch_id=batch_id)
        return Found(batch_id=None, is_certain=is_certain)

    def state(self, batch_id: str, *, deadline_seconds: float) -> BatchState:
        read = partial(self._client.messages.batches.with_raw_response.retrieve, batch_id)
        status = self._call(read, deadline_seconds).get("processing_status")
        return BatchState(stage=BatchStage.OVER if status == _ENDED else BatchStage.WORKING)

    def answers(
        self, batch_id: str, requests: Mapping[str, ModelRequest], *, deadline_seconds: float
    ) -> list[BatchedAnswer]:
        found = []
        for line in self._lines(batch_id, deadline_seconds):
            id, result = str(line.get("custom_id")), line.get("result")
            if id in requests and isinstance(result, dict):
                outcome = self._outcome(result, requests[id])
                found.append(BatchedAnswer(id=id, outcome=outcome))
        return found

    def cancel(self, batch_id: str, *, deadline_seconds: float) -> None:
        stop = partial(self._client.messages.batches.with_raw_response.cancel, batch_id)
        self._call(stop, deadline_seconds)

    def _outcome(
        self, result: Mapping[str, Any], request: ModelRequest
    ) -> ModelReply | ProviderError:
        match result.get("type"):
            case "succeeded":
                return self._read(result.get("message"), request)
            case "expired":
                return expired(self._name)
            case "canceled":
                return cancelled(self._name)
        answer = result.get("error")
        # The entry's error stands in the envelope of an answer.
        error = answer.get("error", answer) if isinstance(answer, dict) else {}
        kind = str(error.get("type")) if isinstance(error, dict) else ""
        return refused(_STATUS.get(kind, 500), error, provider=self._name)

    def _read(self, message: object, request: ModelRequest) -> ModelReply | ProviderError:
        body = message if isinstance(message, dict) else {}
        try:
            return self._reply(Answer(body=body, headers={}, latency_ms=0), request=request)
        except ProviderError as problem:
            return problem

    def _is_ours(self, batch_id: str, ids: frozenset[str], deadline_seconds: float) -> bool:
        first = next(self._lines(batch_id, deadline_seconds), {})
        return first.get("custom_id") in ids

    def _lines(self, batch_id: str, deadline_seconds: float) -> Iterator[dict[str, Any]]:
        """Asked of the address that we know: the SDK would go to where the batch says."""
        if not _ID.fullmatch(batch_id):
            raise unreadable("its id is none", self._name)

        def send(*, timeout: httpx2.Timeout) -> Raw:
            options: anthropic.RequestOptions = {"timeout": timeout}
            path = f"/v1/messages/batches/{batch_id}/results"
            return Raw(self._client.get(path, cast_to=httpx2.Response, options=options))

        text = call_for_text(
            send, sdk=anthropic, settings=self._settings, deadline_seconds=deadline_seconds
        )
        return lines_of(text, provider=self._name)

    def _newest_first(self, deadline_seconds: float) -> Iterator[dict[str, Any]]:
        after: str | anthropic.Omit = anthropic.omit
        while True:
            listing = self._client.messages.batches.with_raw_response.list
            body = self._call(partial(listing, limit=_PAGE, after_id=after), deadline_seconds)
            listed = body.get("data")
            if not isinstance(listed, list):
                raise unreadable("the list of batches has no data", self._name)
            batches = [each for each in listed if isinstance(each, dict)]
            yield from batches
            if not body.get("has_more") or not batches:
                return
            after = name_of(batches[-1].get("id"))

    def _entry(self, id: str, request: ModelRequest) -> dict[str, Any]:
        arguments = self._arguments(request)
        extra = arguments.pop("extra_body", {})
        return {"custom_id": id, "params": arguments | extra}

    def _call(self, send: Callable[..., Any], deadline_seconds: float) -> dict[str, Any]:
        return call(
            send, sdk=anthropic, settings=self._settings, deadline_seconds=deadline_seconds
        ).body


def _size(batch: Mapping[str, Any]) -> int:
    counts = batch.get("request_counts")
    numbers = counts.values() if isinstance(counts, dict) else ()
    return sum(number for number in numbers if isinstance(number, int))


def _made_at(batch: Mapping[str, Any]) -> datetime:
    try:
        made = datetime.fromisoformat(str(batch.get("created_at")))
    except ValueError:
        # Not left out for want of a date.
        return datetime.max.replace(tzinfo=UTC)
    return made if made.tzinfo else made.replace(tzinfo=UTC)
