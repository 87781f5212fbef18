"""What the batches of both SDKs have in common."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agents_app.core.errors import ProviderError
from agents_app.core.model import ModelReply, ModelRequest
from agents_app.providers.answers import name_of, unreadable
from agents_app.providers.base import ProviderSettings
from agents_app.providers.calls import Answer, call, call_for_text


class WireBatches:
    """`arguments` makes of a request what the SDK takes, `reply` reads what came of it."""

    # The SDK's module, whose errors are told by their kind.
    _sdk: Any

    def __init__(
        self,
        client: Any,
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

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        """The request as it is sent over the wire."""
        arguments = self._arguments(request)
        extra: dict[str, Any] = arguments.pop("extra_body", {})
        return arguments | extra

    def _read(
        self, body: dict[str, Any], headers: Mapping[str, str], request: ModelRequest
    ) -> ModelReply | ProviderError:
        answer = Answer(body=body, headers=headers, latency_ms=0)
        try:
            return self._reply(answer, request=request)
        except ProviderError as problem:
            return problem

    def _newest_first(
        self, page_after: Callable[[str | None], Callable[..., Any]], deadline_seconds: float
    ) -> Iterator[dict[str, Any]]:
        """All batches of the key's; `page_after` asks for those behind this id."""
        after: str | None = None
        while True:
            body = self._call(page_after(after), deadline_seconds)
            listed = body.get("data")
            if not isinstance(listed, list):
                raise unreadable("the list of batches has no data", self._name)
            batches = [each for each in listed if isinstance(each, dict)]
            yield from batches
            if not body.get("has_more") or not batches:
                return
            after = name_of(batches[-1].get("id"))

    def _id_of(self, body: Mapping[str, Any]) -> str:
        id = name_of(body.get("id"))
        if not id:
            raise unreadable("the answer has no id", self._name)
        return id

    def _call(self, send: Callable[..., Any], deadline_seconds: float) -> dict[str, Any]:
        return call(
            send, sdk=self._sdk, settings=self._settings, deadline_seconds=deadline_seconds
        ).body

    def _text(self, send: Callable[..., Any], deadline_seconds: float) -> str:
        return call_for_text(
            send, sdk=self._sdk, settings=self._settings, deadline_seconds=deadline_seconds
        )
