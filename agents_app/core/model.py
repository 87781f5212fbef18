"""The port between an agent and whatever answers it: request, reply and client."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from pydantic import JsonValue

from agents_app.core import values
from costs.core.usage import Usage

DEFAULT_MAX_OUTPUT_TOKENS = 4096
DEFAULT_DEADLINE_SECONDS = 30.0
DEFAULT_TURNS = 20  # of an agent that asks its model again and again
DEFAULT_REPAIRS = 2  # further turns for an answer that does not fit its schema

JsonSchema = Mapping[str, Any]


class FinishReason(StrEnum):
    STOP = "stop"  # the model said all it had to say
    LENGTH = "length"  # cut at the output limit
    CONTEXT_FULL = "context_full"  # cut where question and answer fill all that the model can hold
    TOOL_CALLS = "tool_calls"  # the model waits for results of tools
    PAUSED = "paused"  # the provider broke off a long turn: sent back as it is, it goes on
    REFUSED = "refused"  # the model or a content filter declined
    UNKNOWN = "unknown"  # the provider gave no reason that we know: not to be trusted as whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool as a model is shown it; `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: JsonSchema

    @property
    def text(self) -> str:
        """All of it, for estimates of its length; `asdict` would copy the schema for each call."""
        parts = {"name": self.name, "description": self.description}
        return values.dump({**parts, "parameters": dict(self.parameters)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """What a model asks a tool for.

    Nobody has checked `arguments`; if they are not JSON, they are the text that it wrote.
    """

    id: str
    name: str
    arguments: JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What came of a tool call, as the model is told of it."""

    call_id: str
    name: str
    content: str
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Opaque:
    """What a model wants back unchanged with its turn, such as what it thought and has signed.

    Only that model of that provider gets it; any other does with the rest of the turn.
    """

    provider: str
    model: str
    content: JsonValue

    @classmethod
    def of(cls, request: "ModelRequest", content: JsonValue) -> "Opaque | None":
        """What the model that was asked wants back; None if that is nothing."""
        if content is None:
            return None
        return cls(provider=request.provider, model=request.model, content=content)


@dataclass(frozen=True, slots=True)
class Message:
    """A turn of a conversation: the assistant's may call tools, the user's brings their results."""

    role: Literal["user", "assistant"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    opaque: Opaque | None = None

    @property
    def text(self) -> str:
        """All that the turn says, calls and results included, for estimates of its length."""
        calls = (f"{each.name} {values.dump(each.arguments)}" for each in self.tool_calls)
        results = (f"{each.name} {each.content}" for each in self.tool_results)
        return "\n".join([self.content, *calls, *results])


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One call to one model. `deadline_seconds` bounds all of it, from connect to last byte.

    `attempt` counts tries of the same call from 1; providers are not told.
    """

    provider: str
    model: str
    messages: tuple[Message, ...]
    system: str = ""
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    max_output_tokens: int = DEFAULT_MAX_OUTPUT_TOKENS
    output_schema: JsonSchema | None = None
    tools: tuple[ToolSpec, ...] = ()
    deadline_seconds: float = DEFAULT_DEADLINE_SECONDS
    attempt: int = 1

    @property
    def prompt_text(self) -> str:
        """Everything the model reads as one text, for estimates of its length."""
        schema = "" if self.output_schema is None else values.dump(self.output_schema)
        kept = (self.opaque_of(each) for each in self.messages)
        opaque = (values.dump(each) for each in kept if each is not None)
        return "\n".join(
            [
                self.system,
                *(each.text for each in self.messages),
                *opaque,
                *(each.text for each in self.tools),
                schema,
            ]
        )

    def opaque_of(self, message: Message) -> JsonValue:
        """What the model wants back with this turn; None unless it is the one that asked for it."""
        kept = message.opaque
        if kept is None or (kept.provider, kept.model) != (self.provider, self.model):
            return None
        return kept.content


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """What a model answered, whole or not: look at `finish_reason` before trusting `text`.

    `model` is the name the provider answered under. `limits` holds the quota that the provider
    states in its headers, by header name. An unusable answer is still a reply, since it is paid.
    The ids of `tool_calls` are unique in their conversation. In an answer that was cut, they may
    be cut as well.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    provider: str
    model: str
    request_id: str = ""
    latency_ms: int = 0
    limits: Mapping[str, str] = field(default_factory=dict)
    tool_calls: tuple[ToolCall, ...] = ()
    opaque: Opaque | None = None

    @property
    def message(self) -> Message:
        """The turn as the next request has to carry it."""
        return Message("assistant", self.text, tool_calls=self.tool_calls, opaque=self.opaque)

    @property
    def estimated(self) -> bool:
        return self.usage.estimated


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """How many tokens a request is to read; an estimate where its provider does not count."""

    tokens: int
    is_estimate: bool


class ModelClient(Protocol):
    """Whoever answers a request: a provider's client, or the gateway before it.

    Safe to share between threads. Failures are `ProviderError`.
    """

    def complete(self, request: ModelRequest) -> ModelReply: ...
