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
from agents_app.core.conversation import converse
from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.loop import LoopLimits
from agents_app.core.memory_settings import memory_problems
from agents_app.core.model import DEFAULT_MAX_OUTPUT_TOKENS, Message, ModelRequest
from agents_app.core.tools import Toolbox

MAX_REPAIRS = 5


class PromptAgent:
    """Asks the model once. With an output schema the answer is JSON, else it is text.

    JSON that does not fit is asked for again, with what is wrong with it.
    """

    name = "prompt"
    description = "One model call: the prompt in, the answer out."
    calls_model = True

    def problems(self, config: AgentConfig, tools: Toolbox) -> list[Problem]:
        found = prompt_problems(config) + model_problems(config)
        return found + tool_problems(config) + memory_problems(config)

    def run(
        self,
        config: AgentConfig,
        *,
        inputs: Mapping[str, JsonValue],  # they are in the prompt already
        ports: Ports,
    ) -> Outcome:
        return asked_once(request_of(config), config=config, ports=ports)


def asked_once(request: ModelRequest, *, config: AgentConfig, ports: Ports) -> Outcome:
    """One answer, without tools. Only JSON has a form that can be missed, and repaired."""
    repairs = 0 if request.output_schema is None else config.repairs
    return converse(request, limits=LoopLimits(turns=1 + repairs, repairs=repairs), ports=ports)


def prompt_problems(config: AgentConfig) -> list[Problem]:
    needed = Problem("prompt", f"a {config.type} agent needs a prompt")
    return [] if config.prompt.strip() else [needed]


def model_problems(config: AgentConfig) -> list[Problem]:
    """What keeps an agent from asking its model."""
    found = []
    if not config.provider or not config.model:
        found.append(Problem("model", f"a {config.type} agent needs a provider and a model"))
    if not is_count(config.parameters.get("max_output_tokens", 1)):
        found.append(
            Problem("parameters.max_output_tokens", "must be a whole number of at least 1")
        )
    if not 0 <= config.repairs <= MAX_REPAIRS:
        found.append(Problem("repairs", f"must be a whole number from 0 to {MAX_REPAIRS}"))
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


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _count(value: JsonValue) -> int:
    if isinstance(value, int) and is_count(value):
        return value
    raise ProviderError(ProviderErrorKind.INVALID_REQUEST, f"max_output_tokens cannot be {value!r}")
