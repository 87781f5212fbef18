"""OpenAI, and every server that speaks its chat protocol, by OpenAI's SDK."""

import logging
from collections.abc import Callable, Mapping
from enum import Enum, auto
from functools import partial
from typing import Any

import httpx2
import openai

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import (
    FinishReason,
    JsonSchema,
    ModelReply,
    ModelRequest,
    Opaque,
    TokenCount,
)
from agents_app.providers import openai_wire as wire
from agents_app.providers import usage as usages
from agents_app.providers.answers import (
    first,
    limits_of,
    listed_models,
    name_of,
    text_of,
    unreadable,
)
from agents_app.providers.base import ProviderKind, ProviderSettings
from agents_app.providers.calls import Answer, Raw, call, http_client_for, streamed_call
from agents_app.providers.counting import estimated_count
from agents_app.providers.hearing import Listener, listener
from agents_app.providers.models import model_info
from agents_app.providers.openai_batches import OpenAIBatches
from agents_app.providers.openai_stream import gathered
from agents_app.providers.tool_calls import finish_of, written
from costs.core.usage import Usage

_FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "model_length": FinishReason.CONTEXT_FULL,  # Mistral's
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.REFUSED,
}
# Reasoning counts against it, and newer models refuse the older name; other servers know only
# the older.
_TOKEN_LIMIT = {
    ProviderKind.OPENAI: "max_completion_tokens",
    ProviderKind.XAI: "max_completion_tokens",
}
_USAGE: Mapping[ProviderKind, Callable[..., Usage]] = {
    ProviderKind.XAI: usages.from_xai,
    ProviderKind.COMPATIBLE: usages.from_router,
}
# Parameters outside OpenAI's own protocol, which local servers take.
_EXTRA = frozenset({"top_k", "min_p", "repeat_penalty"})

# At DEBUG, which one environment variable turns on, it logs whole prompts.
logging.getLogger("openai").setLevel(logging.INFO)


class _Streaming(Enum):
    """How much of streaming a server understands."""

    WITH_USAGE = auto()
    WITHOUT_USAGE = auto()
    NONE = auto()


class OpenAIClient:
    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._name = settings.name
        self._kind = settings.kind
        self._client = openai.OpenAI(
            # The SDK insists on a key; servers without keys ignore it.
            api_key=settings.api_key or "none",
            base_url=settings.address,
            max_retries=0,
            http_client=http_client_for(settings),
        )
        # Taken from the environment, these would tell every server whose platform this is.
        self._client.organization = None
        self._client.project = None
        self._streaming = _Streaming.WITH_USAGE

    def complete(self, request: ModelRequest) -> ModelReply:
        create = self._client.chat.completions.with_raw_response.create
        send = partial(create, **self._arguments(request))
        heard = listener()
        while heard and self._streaming is not _Streaming.NONE:
            style = self._streaming
            try:
                return self._reply(self._stream(send, request, style, heard), request=request)
            except ProviderError as error:
                understood = _understood(error, style)
                if understood is style:
                    raise
                # Nothing was served, so it can be asked again; and it is told only once.
                self._streaming = understood
        return self._reply(self._call(send, request.deadline_seconds), request=request)

    @property
    def batches(self) -> OpenAIBatches:
        return OpenAIBatches(
            self._client, self._settings, arguments=self._arguments, reply=self._reply
        )

    def _stream(
        self, send: Callable[..., Any], request: ModelRequest, style: _Streaming, heard: Listener
    ) -> Answer:
        asked: dict[str, Any] = {"stream": True}
        if style is _Streaming.WITH_USAGE:
            asked["stream_options"] = {"include_usage": True}
        return streamed_call(
            partial(send, **asked),
            gather=partial(gathered, listener=heard, provider=self._name),
            sdk=openai,
            settings=self._settings,
            deadline_seconds=request.deadline_seconds,
        )

    def models(self, *, deadline_seconds: float) -> list[str]:
        answer = self._call(self._client.models.with_raw_response.list, deadline_seconds)
        return listed_models(answer.body, provider=self._name)

    def count_tokens(self, request: ModelRequest) -> TokenCount:
        """By the model itself at llama.cpp's server; the protocol has no call for it."""
        if self._kind is not ProviderKind.LOCAL:
            return estimated_count(request)
        chat = {"messages": wire.messages_on_wire(request)}
        if request.tools:
            chat["tools"] = wire.tools_on_wire(request.tools)
        seconds = request.deadline_seconds
        prompt = self._of_llama("apply-template", chat, seconds).get("prompt")
        words = {"content": prompt, "add_special": True, "parse_special": True}
        tokens = self._of_llama("tokenize", words, seconds).get("tokens")
        if not isinstance(tokens, list):
            raise unreadable("the answer has no tokens", self._name)
        return TokenCount(tokens=len(tokens), is_estimate=False)

    def _of_llama(
        self, what: str, body: Mapping[str, Any], deadline_seconds: float
    ) -> dict[str, Any]:
        """From the server's own calls, which stand beside those of the protocol."""
        url = f"{self._settings.address.rstrip('/').removesuffix('/v1')}/{what}"

        def send(*, timeout: httpx2.Timeout) -> Raw:
            options: openai.RequestOptions = {"timeout": timeout}
            post = self._client.post
            return Raw(post(url, cast_to=httpx2.Response, body=body, options=options))

        return self._call(send, deadline_seconds).body

    def _call(self, send: Callable[..., Any], deadline_seconds: float) -> Answer:
        return call(send, sdk=openai, settings=self._settings, deadline_seconds=deadline_seconds)

    def _arguments(self, request: ModelRequest) -> dict[str, Any]:
        taken = model_info(self._kind, request.model).fit(request.parameters, provider=self._name)
        arguments: dict[str, Any] = {
            "model": request.model,
            "messages": wire.messages_on_wire(request),
            _TOKEN_LIMIT.get(self._kind, "max_tokens"): request.max_output_tokens,
            **{name: value for name, value in taken.items() if name not in _EXTRA},
        }
        if request.tools:
            arguments["tools"] = wire.tools_on_wire(request.tools)
        if request.output_schema is not None:
            arguments["response_format"] = _response_format(request.output_schema)
        extra = {name: value for name, value in taken.items() if name in _EXTRA}
        return arguments | ({"extra_body": extra} if extra else {})

    def _reply(self, answer: Answer, *, request: ModelRequest) -> ModelReply:
        body = answer.body
        if not isinstance(body.get("choices"), list):
            raise unreadable("the answer has no choices", self._name)
        choice = first(body["choices"])
        message = first([choice.get("message")])
        text = text_of(message.get("content"))
        calls = wire.calls_from_wire(message, request=request)
        normalise = _USAGE.get(self._kind, usages.from_openai)
        return ModelReply(
            text=text,
            tool_calls=calls,
            opaque=Opaque.of(request, wire.opaque_from_wire(message)),
            finish_reason=finish_of(_finish_reason(choice, message), calls),
            usage=normalise(body.get("usage"), request=request, text=written(text, calls)),
            provider=self._name,
            model=name_of(body.get("model"), request.model),
            request_id=name_of(answer.headers.get("x-request-id"), body.get("id")),
            latency_ms=answer.latency_ms,
            limits=limits_of(answer.headers),
        )


def _understood(error: ProviderError, style: _Streaming) -> _Streaming:
    """How a server that has refused a stream can be asked; the same, if that was not why."""
    if error.kind is not ProviderErrorKind.INVALID_REQUEST or "stream" not in error.detail:
        return style
    if "stream_options" in error.detail or "include_usage" in error.detail:
        return _Streaming.WITHOUT_USAGE if style is _Streaming.WITH_USAGE else _Streaming.NONE
    return _Streaming.NONE


def _finish_reason(choice: Mapping[str, Any], message: Mapping[str, Any]) -> FinishReason:
    if message.get("refusal"):
        return FinishReason.REFUSED
    return _FINISH.get(str(choice.get("finish_reason")), FinishReason.UNKNOWN)


def _response_format(schema: JsonSchema) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": schema, "strict": is_strict(schema)},
    }


def is_strict(schema: Any) -> bool:
    """Whether the vendor can guarantee this schema: closed objects that require every key."""
    if isinstance(schema, list):
        return all(is_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        closed = schema.get("additionalProperties") is False
        if not closed or set(schema.get("required", ())) != set(schema.get("properties", ())):
            return False
    return all(is_strict(value) for value in schema.values())
