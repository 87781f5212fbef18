"""Requests that a provider takes many at a time, and answers when it suits it, for less money."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from agents_app.core import values
from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import ModelReply, ModelRequest
from agents_app.providers.answers import is_deep, unreadable
from agents_app.providers.errors import classify, redacted

# A batch that is on its way is looked for from a little before we began to send it: by whose
# clock it was made is the provider's business.
CLOCK_SKEW_SECONDS = 300


class BatchStage(StrEnum):
    WORKING = "working"
    OVER = "over"  # its answers can be had


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """`error` is why a batch was refused as a whole: then there is no answer to any of it."""

    stage: BatchStage
    error: ProviderError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A batch that may have been sent. `key` is our name of it, `requests` are by our ids."""

    key: str
    began_at: datetime
    ids: frozenset[str]
    known: frozenset[str] = frozenset()  # batches of the provider's that are others of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The provider's id of a batch that was sent; not `is_certain`: it cannot be told yet."""

    batch_id: str | None
    is_certain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchedAnswer:
    """What came of one request."""

    id: str
    outcome: ModelReply | ProviderError


class BatchClient(Protocol):
    """Safe to share between threads. Failures are `ProviderError`."""

    def size_of(self, request: ModelRequest) -> int:
        """The bytes of a request as it will be sent; refuses what could not be."""
        ...

    def submit(
        self, key: str, requests: Mapping[str, ModelRequest], *, deadline_seconds: float
    ) -> str:
        """Hand in a batch; the provider's id of it."""
        ...

    def find(self, sent: Sent, *, deadline_seconds: float) -> Found:
        """A batch that was handed in without its answer having been heard."""
        ...

    def state(self, batch_id: str, *, deadline_seconds: float) -> BatchState: ...

    def answers(
        self, batch_id: str, requests: Mapping[str, ModelRequest], *, deadline_seconds: float
    ) -> list[BatchedAnswer]:
        """Of a batch that is over. Requests that it says nothing of are left out."""
        ...

    def cancel(self, batch_id: str, *, deadline_seconds: float) -> None:
        """Have it end as soon as it can. What has been answered is to be had all the same."""
        ...


def lines_of(text: str, *, provider: str) -> Iterator[dict[str, Any]]:
    """The objects of an answer in JSON Lines."""
    # Not `splitlines`: texts may hold other separators.
    for line in filter(None, map(str.strip, text.split("\n"))):
        try:
            parsed = values.parse(line)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict) or is_deep(parsed):
            raise unreadable("a line of the batch's answers is no JSON object", provider)
        yield parsed


def expired(provider: str) -> ProviderError:
    detail = "the provider did not come to it before its batch ended"
    return ProviderError(ProviderErrorKind.TIMEOUT, detail, provider)


def cancelled(provider: str) -> ProviderError:
    return ProviderError(
        ProviderErrorKind.SERVER, "its batch was cancelled before it was answered", provider
    )


def refused(status: int, error: object, *, provider: str) -> ProviderError:
    """The refusal of one request, which costs nothing."""
    stated = error if isinstance(error, Mapping) else {}
    codes = frozenset(str(stated[name]) for name in ("code", "type") if stated.get(name))
    message = str(stated.get("message") or f"HTTP {status} without a message")
    kind = classify(status, codes=codes, message=message)
    return ProviderError(kind, redacted(message), provider, status)
