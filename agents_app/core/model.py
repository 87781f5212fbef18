"""The port between an agent and whatever answers it: request, reply and client."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from pydantic import JsonValue

from agents_app.core import values
from costs.core.usage import Usage

DEFAULT_MAX_OUTPUT_TOKENS = 4096
DEFAULT_DEADLINE_SECONDS = 30.0

JsonSchema = Mapping[str, Any]


class FinishReason(StrEnum):
    STOP = "stop"  # the model said all it had to say
    LENGTH = "length"  # cut at the output or context limit
    TOOL_CALLS = "tool_calls"  # the model waits for results of tools
    REFUSED = "refused"  # the model or a content filter declined
    UNKNOWN = "unknown"  # the provider gave no reason that we know: not to be trusted as whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool as a model is shown it; `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: JsonSchema


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


@dataclass(frozen=True, slots=True)
class Message:
    """A turn of a conversation: the assistant's may call tools, the user's brings their results."""

    role: Literal["user", "assistant"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()


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
        tools = (values.dump(asdict(each)) for each in self.tools)
        return "\n".join([self.system, *map(_text_of, self.messages), *tools, schema])


def _text_of(message: Message) -> str:
    calls = (f"{each.name} {values.dump(each.arguments)}" for each in message.tool_calls)
    results = (f"{each.name} {each.content}" for each in message.tool_results)
    return "\n".join([message.content, *calls, *results])


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """What a model answered, whole or not: look at `finish_reason` before trusting `text`.

    `model` is the name the provider answered under. `limits` holds the quota that the provider
    states in its headers, by header name. An unusable answer is still a reply, since it is paid.
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

    @property
    def estimated(self) -> bool:
        return self.usage.estimated


class ModelClient(Protocol):
    """Whoever answers a request: a provider's client, or the gateway before it.

    Safe to share between threads. Failures are `ProviderError`.
    """

    def complete(self, request: ModelRequest) -> ModelReply: ...
