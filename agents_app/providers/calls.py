"""One call through a vendor's SDK: its deadline, its errors, its time, its answer as JSON."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import httpx2

from agents_app.providers.answers import body_of
from agents_app.providers.base import ProviderSettings
from agents_app.providers.errors import vendor_errors
from agents_app.providers.streams import Event, events_of, is_stream
from agents_app.providers.transport import (
    guarded_client,
    shared_client,
    timeouts,
    total_deadline,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    body: dict[str, Any]
    headers: Mapping[str, str]
    latency_ms: int


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer to a call that the SDK has no method for, in the form of those that it has."""

    http_response: httpx2.Response


def http_client_for(settings: ProviderSettings) -> httpx2.Client:
    return guarded_client() if settings.is_guarded else shared_client()


def call(
    send: Callable[..., Any],
    *,
    sdk: ModuleType,
    settings: ProviderSettings,
    deadline_seconds: float,
) -> Answer:
    """Call an SDK's `with_raw_response` method. Every failure is a ProviderError."""
    started = time.monotonic()
    response = _sent(send, sdk=sdk, settings=settings, deadline_seconds=deadline_seconds)
    return _answer(response, body_of(response, provider=settings.name), started)


def call_for_text(
    send: Callable[..., Any],
    *,
    sdk: ModuleType,
    settings: ProviderSettings,
    deadline_seconds: float,
) -> str:
    """The same, where the answer is a file."""
    return _sent(send, sdk=sdk, settings=settings, deadline_seconds=deadline_seconds).text


def _sent(
    send: Callable[..., Any],
    *,
    sdk: ModuleType,
    settings: ProviderSettings,
    deadline_seconds: float,
) -> httpx2.Response:
    with (
        vendor_errors(sdk, provider=settings.name, api_key=settings.api_key),
        total_deadline(deadline_seconds),
    ):
        response: httpx2.Response = send(timeout=timeouts(deadline_seconds)).http_response
        # What the SDK has left on the wire belongs to the deadline too.
        response.read()
    return response


def streamed_call(
    send: Callable[..., Any],
    *,
    gather: Callable[[Iterator[Event]], dict[str, Any]],
    sdk: ModuleType,
    settings: ProviderSettings,
    deadline_seconds: float,
) -> Answer:
    """The same, where the answer is asked for as a stream; `gather` makes one body of its events.

    A server that answers in one piece all the same is understood.
    """
    started = time.monotonic()
    with (
        vendor_errors(sdk, provider=settings.name, api_key=settings.api_key),
        total_deadline(deadline_seconds),
    ):
        bounds = timeouts(deadline_seconds)
        response = send(timeout=bounds, extra_headers=_for_stream(settings)).http_response
        try:
            if is_stream(response):
                body = gather(events_of(response, provider=settings.name))
            else:
                response.read()
                body = body_of(response, provider=settings.name)
        finally:
            response.close()
    return _answer(response, body, started)


def _for_stream(settings: ProviderSettings) -> dict[str, str]:
    """Headers that a stream is asked for with.

    llama.cpp's server ends the connection behind a stream without saying so. Whoever sent on it at
    that moment would never know whether the request was heard. Such servers stand near, without
    TLS, and a connection anew costs next to nothing.
    """
    return {} if settings.address.startswith("https:") else {"Connection": "close"}


def _answer(response: httpx2.Response, body: dict[str, Any], started: float) -> Answer:
    return Answer(
        body=body,
        headers=response.headers,
        latency_ms=round((time.monotonic() - started) * 1000),
    )
