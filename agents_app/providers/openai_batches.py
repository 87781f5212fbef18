"""Batches as OpenAI has them: a file of requests, a batch of the file, files of answers."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final

import openai

from agents_app.core import values
from agents_app.core.errors import ProviderError
from agents_app.core.model import ModelReply, ModelRequest
from agents_app.providers.answers import name_of
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

_ENDPOINT: Final = "/v1/chat/completions"
_KEY = "muster_batch"
_OVER = frozenset({"completed", "failed", "expired", "cancelled"})
_PAGE = 100


class OpenAIBatches(WireBatches):
    _sdk = openai

    def size_of(self, request: ModelRequest) -> int:
        return len(self._line("", request))

    def submit(
        self, key: str, requests: Mapping[str, ModelRequest], *, deadline_seconds: float
    ) -> str:
        content = b"".join(self._line(id, request) for id, request in requests.items())
        upload = partial(
            self._client.files.with_raw_response.create,
            file=(f"{key}.jsonl", content, "application/jsonl"),
            purpose="batch",
        )
        file = self._id_of(self._call(upload, deadline_seconds))
        make = partial(
            self._client.batches.with_raw_response.create,
            input_file_id=file,
            endpoint=_ENDPOINT,
            completion_window="24h",
            metadata={_KEY: key},
        )
        return self._id_of(self._call(make, deadline_seconds))

    def find(self, sent: Sent, *, deadline_seconds: float) -> Found:
        earliest = (sent.began_at - timedelta(seconds=CLOCK_SKEW_SECONDS)).timestamp()
        for batch in self._newest_first(self._page, deadline_seconds):
            metadata = batch.get("metadata")
            if isinstance(metadata, dict) and metadata.get(_KEY) == sent.key:
                return Found(batch_id=name_of(batch.get("id")))
            made = batch.get("created_at")
            if isinstance(made, int | float) and made < earliest:
                break
        return Found(batch_id=None)

    def state(self, batch_id: str, *, deadline_seconds: float) -> BatchState:
        batch = self._batch(batch_id, deadline_seconds)
        status = batch.get("status")
        if status not in _OVER:
            return BatchState(stage=BatchStage.WORKING)
        return BatchState(
            stage=BatchStage.OVER, error=self._failure(batch) if status == "failed" else None
        )

    def answers(
        self, batch_id: str, requests: Mapping[str, ModelRequest], *, deadline_seconds: float
    ) -> list[BatchedAnswer]:
        batch = self._batch(batch_id, deadline_seconds)
        found: dict[str, BatchedAnswer] = {}
        for name in ("output_file_id", "error_file_id"):
            file = batch.get(name)
            if not isinstance(file, str) or not file:
                continue
            read = partial(self._client.files.with_raw_response.content, file)
            text = self._text(read, deadline_seconds)
            for line in lines_of(text, provider=self._name):
                id = str(line.get("custom_id"))
                if id in requests:
                    outcome = self._outcome(line, requests[id])
                    found[id] = BatchedAnswer(id=id, outcome=outcome)
        left = {"expired": expired, "cancelled": cancelled}.get(str(batch.get("status")))
        if left is not None:
            # Of what it did not come to, servers need not say so line by line.
            for id in requests.keys() - found.keys():
                found[id] = BatchedAnswer(id=id, outcome=left(self._name))
        return list(found.values())

    def cancel(self, batch_id: str, *, deadline_seconds: float) -> None:
        stop = partial(self._client.batches.with_raw_response.cancel, batch_id)
        self._call(stop, deadline_seconds)

    def _outcome(
        self, line: Mapping[str, Any], request: ModelRequest
    ) -> ModelReply | ProviderError:
        error, response = line.get("error"), line.get("response")
        if isinstance(response, dict) and isinstance(response.get("body"), dict):
            body, status = response["body"], response.get("status_code")
            if status == 200:
                headers = {"x-request-id": name_of(response.get("request_id"))}
                return self._read(body, headers, request)
            told = body.get("error", error)
            return refused(status if isinstance(status, int) else 500, told, provider=self._name)
        code = str(error.get("code")) if isinstance(error, dict) else ""
        if code == "batch_expired":
            return expired(self._name)
        if code == "batch_cancelled":
            return cancelled(self._name)
        return refused(500, error, provider=self._name)

    def _failure(self, batch: Mapping[str, Any]) -> ProviderError:
        """Why the whole batch was refused; nothing of it was served."""
        errors = batch.get("errors")
        listed = errors.get("data") if isinstance(errors, dict) else None
        first = listed[0] if isinstance(listed, list) and listed else {}
        return refused(400, first or {"message": "the batch was refused"}, provider=self._name)

    def _page(self, after: str | None) -> Callable[..., Any]:
        listing = self._client.batches.with_raw_response.list
        return partial(listing, limit=_PAGE, after=after or openai.omit)

    def _batch(self, batch_id: str, deadline_seconds: float) -> dict[str, Any]:
        read = partial(self._client.batches.with_raw_response.retrieve, batch_id)
        return self._call(read, deadline_seconds)

    def _line(self, id: str, request: ModelRequest) -> bytes:
        line: dict[str, Any] = {"custom_id": id, "method": "POST", "url": _ENDPOINT}
        line["body"] = self._body(request)
        return values.dump(line).encode("utf-8", errors="replace") + b"\n"
