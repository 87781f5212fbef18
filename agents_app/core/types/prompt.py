"""One prompt, one answer."""

from collections.abc import Mapping

from pydantic import JsonValue

from agents_app.core.agent import (
    AgentConfig,
    Outcome,
    Ports,
    Problem,
    schema_problems,
    tool_problems,
)
from agents_app.core.errors import OutputInvalidError, ProviderError, ProviderErrorKind
from agents_app.core.memory_settings import memory_problems
from agents_app.core.model import (
    DEFAULT_MAX_OUTPUT_TOKENS,
    FinishReason,
    Message,
    ModelReply,
    ModelRequest,
)
from agents_app.core.structured import parse_output
from agents_app.core.tools import Toolbox

_UNUSABLE: Mapping[FinishReason, tuple[ProviderErrorKind, str]] = {
    FinishReason.REFUSED: (
        ProviderErrorKind.CONTENT_REFUSED,
        "the model declined to answer",
    ),
    FinishReason.TOOL_CALLS: (
        ProviderErrorKind.PROTOCOL,
        "the model called a tool it was not given",
    ),
    FinishReason.PAUSED: (
        ProviderErrorKind.PROTOCOL,
        "the provider paused an answer that needs no tools",
    ),
    FinishReason.UNKNOWN: (
        ProviderErrorKind.PROTOCOL,
        "the answer ended without a known reason",
    ),
}


class PromptAgent:
    """Asks the model once. With an output schema the answer is JSON, else it is text."""

    name = "prompt"
    description = "One model call: the prompt in, the answer out."
    calls_model = True

    def problems(self, config: AgentConfig, tools: Toolbox) -> list[Problem]:
        return model_problems(config) + tool_problems(config) + memory_problems(config)

    def run(
        self,
        config: AgentConfig,
        *,
        inputs: Mapping[str, JsonValue],  # they are in the prompt already
        ports: Ports,
    ) -> Outcome:
        request = request_of(config)
        reply = ports.model.complete(request)
        _refuse_unfinished(reply, request)
        if config.output_schema is None:
            return Outcome(output=reply.text, text=reply.text)
        return Outcome(output=parse_output(reply.text, config.output_schema), text=reply.text)


def model_problems(config: AgentConfig) -> list[Problem]:
    """What keeps an agent from asking its model."""
    found = []
    if not config.prompt.strip():
        found.append(Problem("prompt", f"a {config.type} agent needs a prompt"))
    if not config.provider or not config.model:
        found.append(Problem("model", f"a {config.type} agent needs a provider and a model"))
    if not is_count(config.parameters.get("max_output_tokens", 1)):
        found.append(
            Problem("parameters.max_output_tokens", "must be a whole number of at least 1")
        )
    return found + schema_problems(config)


def request_of(config: AgentConfig) -> ModelRequest:
    """The call that this configuration stands for; also what a price estimate is made of."""
    parameters = dict(config.parameters)
    max_output_tokens = parameters.pop("max_output_tokens", DEFAULT_MAX_OUTPUT_TOKENS)
    return ModelRequest(
        provider=config.provider,
        model=config.model,
        messages=(Message("user", config.prompt),),
        system=config.system,
        parameters=parameters,
        max_output_tokens=_count(max_output_tokens),
        output_schema=config.output_schema,
        deadline_seconds=config.deadline_seconds,
        attempt=config.attempt,
    )


def _refuse_unfinished(reply: ModelReply, request: ModelRequest) -> None:
    """Raise unless the answer may be taken. Cut text is kept; cut JSON is not JSON."""
    match reply.finish_reason:
        case FinishReason.STOP:
            return
        case FinishReason.LENGTH | FinishReason.CONTEXT_FULL if (
            request.output_schema is None and reply.text
        ):
            return
        case FinishReason.LENGTH:
            raise OutputInvalidError(
                f"the answer was cut after {reply.usage.output_tokens} tokens of "
                f"{request.max_output_tokens} allowed; raise max_output_tokens or ask for less"
            )
        case FinishReason.CONTEXT_FULL:
            raise OutputInvalidError(
                "the answer was cut where the model's context was full; shorten the prompt"
            )
    raise ProviderError(*_UNUSABLE[reply.finish_reason], reply.provider)


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _count(value: JsonValue) -> int:
    if isinstance(value, int) and is_count(value):
        return value
    raise ProviderError(ProviderErrorKind.INVALID_REQUEST, f"max_output_tokens cannot be {value!r}")
