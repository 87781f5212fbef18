"""Anthropic's Messages API, by its own SDK."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import anthropic

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import (
    FinishReason,
    JsonSchema,
    ModelReply,
    ModelRequest,
    Opaque,
    TokenCount,
)
from agents_app.providers import anthropic_wire as wire
from agents_app.providers import usage as usages
from agents_app.providers.answers import limits_of, listed_models, name_of, text_of, unreadable
from agents_app.providers.anthropic_batches import AnthropicBatches
from agents_app.providers.anthropic_stream import gathered
from agents_app.providers.base import ProviderKind, ProviderSettings
from agents_app.providers.calls import Answer, call, http_client_for, streamed_call
from agents_app.providers.hearing import listener
from agents_app.providers.models import model_info
from agents_app.providers.tool_calls import finish_of, written

_FINISH = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.CONTEXT_FULL,
    "tool_use": FinishReason.TOOL_CALLS,
    "pause_turn": FinishReason.PAUSED,
    "refusal": FinishReason.REFUSED,
}

# What of a request is counted as input.
_COUNTED = ("model", "messages", "system", "tools", "tool_choice", "output_config")

# At DEBUG, which one environment variable turns on, it logs whole prompts.
logging.getLogger("anthropic").setLevel(logging.INFO)


class AnthropicClient:
    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._name = settings.name
        self._client = anthropic.Anthropic(
            api_key=settings.api_key,
            base_url=settings.address,
            max_retries=0,
            http_client=http_client_for(settings),
            # Spans of model calls are ours to make, and trace ids ours to keep.
            open_telemetry={"traces": False, "propagation": False},
        )

    def complete(self, request: ModelRequest) -> ModelReply:
        create = self._client.messages.with_raw_response.create
        send = partial(create, **self._arguments(request))
        heard = listener()
        if heard is None:
            return self._reply(self._call(send, request.deadline_seconds), request=request)
        answer = streamed_call(
            partial(send, stream=True),
            gather=partial(gathered, listener=heard, provider=self._name),
            sdk=anthropic,
            settings=self._settings,
            deadline_seconds=request.deadline_seconds,
        )
        return self._reply(answer, request=request)

    @property
    def batches(self) -> AnthropicBatches:
        return AnthropicBatches(
            self._client, self._settings, arguments=self._arguments, reply=self._reply
        )

    def models(self, *, deadline_seconds: float) -> list[str]:
        answer = self._call(self._client.models.with_raw_response.list, deadline_seconds)
        return listed_models(answer.body, provider=self._name)

    def count_tokens(self, request: ModelRequest) -> TokenCount:
        arguments = self._arguments(request)
        asked = {name: arguments[name] for name in _COUNTED if name in arguments}
        send = partial(self._client.messages.with_raw_response.count_tokens, **asked)
        counted = self._call(send, request.deadline_seconds).body.get("input_tokens")
        if isinstance(counted, bool) or not isinstance(counted, int) or counted < 0:
            raise unreadable("the answer has no count", self._name)
        return TokenCount(tokens=counted, is_estimate=False)

    def _call(self, send: Callable[..., Any], deadline_seconds: float) -> Answer:
        return call(send, sdk=anthropic, settings=self._settings, deadline_seconds=deadline_seconds)

    def _arguments(self, request: ModelRequest) -> dict[str, Any]:
        info = model_info(ProviderKind.ANTHROPIC, request.model)
        taken = info.fit(request.parameters, provider=self._name)
        arguments: dict[str, Any] = {
            "model": request.model,
            "messages": wire.messages_on_wire(request),
            "max_tokens": request.max_output_tokens,
            **wire.tool_arguments(request),
        }
        if request.system:
            arguments["system"] = request.system
        if "stop" in taken:
            stop = taken.pop("stop")
            arguments["stop_sequences"] = stop if isinstance(stop, list) else [stop]
        if request.output_schema is not None:
            arguments["output_config"] = {"format": self._format(request.output_schema)}
        # The SDK's method has no sampling parameters any more; the API still takes them.
        return arguments | ({"extra_body": taken} if taken else {})

    def _format(self, schema: JsonSchema) -> dict[str, Any]:
        try:
            fitted = anthropic.transform_schema(dict(schema))
        except (ValueError, TypeError, AssertionError, AttributeError, RecursionError):
            raise ProviderError(
                ProviderErrorKind.INVALID_REQUEST,
                "the output schema uses what this provider cannot enforce",
                self._name,
            ) from None
        return {"type": "json_schema", "schema": fitted}

    def _reply(self, answer: Answer, *, request: ModelRequest) -> ModelReply:
        body = answer.body
        content = body.get("content")
        if not isinstance(content, list):
            raise unreadable("the answer has no content", self._name)
        text, calls = text_of(content), wire.calls_from_wire(content, request=request)
        finish = _FINISH.get(str(body.get("stop_reason")), FinishReason.UNKNOWN)
        is_paused = finish is FinishReason.PAUSED
        opaque = wire.opaque_from_wire(content, calls, is_paused=is_paused)
        return ModelReply(
            text=text,
            tool_calls=calls,
            opaque=Opaque.of(request, opaque),
            finish_reason=finish_of(finish, calls),
            usage=usages.from_anthropic(
                body.get("usage"), request=request, text=written(text, calls)
            ),
            provider=self._name,
            model=name_of(body.get("model"), request.model),
            request_id=name_of(answer.headers.get("request-id"), body.get("id")),
            latency_ms=answer.latency_ms,
            limits=limits_of(answer.headers),
        )
