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
from agents_app.providers.batch_wire import WireBatches
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
from agents_app.providers.calls import Raw

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


class AnthropicBatches(WireBatches):
    _sdk = anthropic

    def size_of(self, request: ModelRequest) -> int:
        return len(values.dump(self._entry("", request)).encode("utf-8", errors="replace"))

    def submit(
        self, key: str, requests: Mapping[str, ModelRequest], *, deadline_seconds: float
    ) -> str:
        """Anthropic has no place for the key: its batches are known by the requests in them."""
        entries: Any = [self._entry(id, request) for id, request in requests.items()]
        make = partial(self._client.messages.batches.with_raw_response.create, requests=entries)
        return self._id_of(self._call(make, deadline_seconds))

    def find(self, sent: Sent, *, deadline_seconds: float) -> Found:
        """By its answers, which name its requests. As long as there are none, nobody can tell."""
        earliest = sent.began_at - timedelta(seconds=CLOCK_SKEW_SECONDS)
        is_certain = True
        for batch in self._newest_first(self._page, deadline_seconds):
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
                message = result.get("message")
                return self._read(message if isinstance(message, dict) else {}, {}, request)
            case "expired":
                return expired(self._name)
            case "canceled":
                return cancelled(self._name)
        answer = result.get("error")
        # The entry's error stands in the envelope of an answer.
        error = answer.get("error", answer) if isinstance(answer, dict) else {}
        kind = str(error.get("type")) if isinstance(error, dict) else ""
        return refused(_STATUS.get(kind, 500), error, provider=self._name)

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

        return lines_of(self._text(send, deadline_seconds), provider=self._name)

    def _page(self, after: str | None) -> Callable[..., Any]:
        listing = self._client.messages.batches.with_raw_response.list
        return partial(listing, limit=_PAGE, after_id=after or anthropic.omit)

    def _entry(self, id: str, request: ModelRequest) -> dict[str, Any]:
        return {"custom_id": id, "params": self._body(request)}


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
