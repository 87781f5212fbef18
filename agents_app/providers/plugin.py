"""Providers of others: what a package brings, and how it is kept to what a provider has to do."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import httpx2
from pydantic import JsonValue

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import ModelReply, ModelRequest, TokenCount
from agents_app.core.plugins import ProviderPlugin
from agents_app.providers.base import ProviderSettings
from agents_app.providers.batches import BatchClient
from agents_app.providers.calls import http_client_for
from agents_app.providers.counting import estimated_count
from agents_app.providers.errors import from_answer, redacted
from agents_app.providers.transport import timeouts, total_deadline

_SHOWN: Final = 300


class PluginProvider(ProviderPlugin):
    """Derive from it, say in the docstring whose models these are, and give a client.

    `address` is where it answers unless the operator says otherwise. One instance serves all.
    """

    def client(self, settings: ProviderSettings) -> "PluginClient":
        """What calls it with this address and this key. Threads share it."""
        raise NotImplementedError


class PluginClient:
    """Derive from it, and write `complete`; what it raises beside ProviderError is final."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings

    def complete(self, request: ModelRequest) -> ModelReply:
        raise NotImplementedError

    def models(self, *, deadline_seconds: float) -> list[str]:
        """The models it has; asked where no default model is set, to see whether it answers."""
        raise NotImplementedError

    def count_tokens(self, request: ModelRequest) -> TokenCount:
        return estimated_count(request)

    def post(self, path: str, body: Any, *, deadline_seconds: float) -> Any:
        """The JSON that it answers to JSON, with the key as a bearer token.

        Raises ProviderError by status and by what the answer says.
        """
        settings = self.settings
        with self._errors(), total_deadline(deadline_seconds):
            response = http_client_for(settings).post(
                settings.address.rstrip("/") + path,
                json=body,
                headers={"Authorization": f"Bearer {settings.api_key}"},
                timeout=timeouts(deadline_seconds),
            )
        answer = _json(response)
        if response.status_code != httpx2.codes.OK or answer is None:
            key = settings.api_key
            raise from_answer(response, answer, provider=settings.name, api_key=key)
        return answer

    @contextmanager
    def _errors(self) -> Iterator[None]:
        name, key = self.settings.name, self.settings.api_key
        try:
            yield
        except httpx2.TimeoutException as error:
            told = redacted(f"no answer in time: {error}", key)
            kind = ProviderErrorKind.TIMEOUT
            raise ProviderError(kind, told, name, in_doubt=True) from None
        except httpx2.HTTPError as error:
            sent = not isinstance(error, httpx2.ConnectError | httpx2.UnsupportedProtocol)
            told = redacted(f"cannot connect, or the connection broke: {error}", key)
            kind = ProviderErrorKind.CONNECTION
            raise ProviderError(kind, told, name, in_doubt=sent) from None


class KeptToIt:
    """A plugin's client, of which only replies and ProviderErrors come through."""

    def __init__(self, settings: ProviderSettings) -> None:
        plugin: Any = settings.plugin
        self._settings = settings
        self._client: Any = self._kept(lambda: plugin.client(settings))

    def complete(self, request: ModelRequest) -> ModelReply:
        started = time.monotonic()
        reply = self._kept(lambda: self._client.complete(request))
        if not isinstance(reply, ModelReply):
            raise self._broken(f"it gave {type(reply).__name__}, and no ModelReply")
        latency = reply.latency_ms or round((time.monotonic() - started) * 1000)
        return replace(reply, provider=self._settings.name, latency_ms=latency)

    def models(self, *, deadline_seconds: float) -> list[str]:
        found = self._kept(lambda: self._client.models(deadline_seconds=deadline_seconds))
        return [str(each) for each in found]

    def count_tokens(self, request: ModelRequest) -> TokenCount:
        counted: TokenCount = self._kept(lambda: self._client.count_tokens(request))
        return counted

    @property
    def batches(self) -> BatchClient:
        told = "the package of this provider takes no batches"
        raise ProviderError(ProviderErrorKind.INVALID_REQUEST, told, self._settings.name)

    def _kept(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except ProviderError:
            raise
        except Exception as error:
            raise self._broken(f"{type(error).__name__}: {error}") from error

    def _broken(self, told: str) -> ProviderError:
        detail = redacted(f"the provider's package failed: {told}"[:_SHOWN], self._settings.api_key)
        # Whether the provider has answered, and charges for it, is not known.
        return ProviderError(ProviderErrorKind.PROTOCOL, detail, self._settings.name, in_doubt=True)


def _json(response: httpx2.Response) -> JsonValue:
    try:
        answer: JsonValue = response.json()
    except ValueError:
        return None
    return answer
