"""Answers that come as server-sent events, read as plain JSON, event by event.

The SDKs' own readers build a model for each event, which costs several times as much, and say
nothing of a stream that just ends.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import httpx2

from agents_app.core import values
from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.providers.answers import is_deep, unreadable
from agents_app.providers.errors import classify, redacted
from agents_app.providers.transport import total_deadline

Event = Mapping[str, Any]
# What OpenAI's protocol says last; Anthropic's has an event of its own.
DONE: Final[Event] = {"type": "[DONE]"}
_LAST = ("[DONE]", "message_stop")
# A connection that is read to its end serves the next call.
_END_SECONDS = 0.2


def is_stream(response: httpx2.Response) -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == "text/event-stream"


def events_of(response: httpx2.Response, *, provider: str) -> Iterator[Event]:
    """The events up to the one that ends the answer. ProviderError if one tells of a failure."""
    parts = response.iter_bytes()
    for data in _data_in(parts):
        event = _event(data, provider=provider)
        yield event
        if event.get("type") in _LAST:
            with suppress(httpx2.HTTPError), total_deadline(_END_SECONDS):
                for _ in parts:
                    pass
            return


def cut_off(provider: str) -> ProviderError:
    """A stream that ended before its answer did: what was written is charged all the same."""
    detail = "the stream ended before the answer was complete"
    return ProviderError(ProviderErrorKind.CONNECTION, detail, provider, None, None, True)


def put_together(body: dict[str, Any], *, provider: str) -> dict[str, Any]:
    """The answer's body, as it would have come in one piece."""
    if is_deep(body):
        raise unreadable("the answer is nested too deeply", provider)
    return body


def _data_in(parts: Iterator[bytes]) -> Iterator[str]:
    data: list[str] = []
    for line in _lines_in(parts):
        if line.startswith(b"data:"):
            data.append(line[5:].strip().decode(errors="replace"))
        elif not line and data:
            yield "\n".join(data)
            data = []
    # The last blank line may be missing.
    if data:
        yield "\n".join(data)


def _lines_in(parts: Iterator[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []
    for part in parts:
        if b"\n" not in part:
            rest.append(part)
            continue
        first, *lines = part.split(b"\n")
        yield (b"".join(rest) + first).rstrip(b"\r")
        rest = [lines.pop()]
        for line in lines:
            yield line.rstrip(b"\r")
    yield b"".join(rest)


def _event(data: str, *, provider: str) -> Event:
    if data == "[DONE]":
        return DONE
    try:
        event = values.parse(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise unreadable("the stream holds what is no JSON object", provider)
    error = event.get("error")
    if error:
        raise _failure(error, provider=provider)
    return event


def _failure(error: object, *, provider: str) -> ProviderError:
    """A failure in the middle of an answer, of which some may have been written and charged."""
    stated = error if isinstance(error, dict) else {"message": error}
    codes = frozenset(str(stated[key]) for key in ("code", "type") if stated.get(key))
    kind = classify(200, codes=codes)
    if kind is ProviderErrorKind.PROTOCOL:
        kind = ProviderErrorKind.SERVER
    detail = redacted(str(stated.get("message") or "an error in the stream"))
    return ProviderError(kind, detail, provider, 200, None, True)
