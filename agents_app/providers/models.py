"""What each model takes, so that a step's parameters fit whatever model it is routed to.

Parameters of taste that a model does not know (temperature, seed and the like) are dropped:
the answer is still the one that was asked for. Where dropping would change what comes back
(`stop`), and for names that nobody knows, the call is refused. So parameters can never reach
into the request's own fields, such as the model or the number of answers, which are priced.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from pydantic import JsonValue

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.providers.base import ProviderKind
from agents_app.providers.simulation import SimulatedOptions
from costs.core.pricing import library_context_window

_PENALTIES = frozenset({"presence_penalty", "frequency_penalty"})
_SAMPLING = frozenset({"temperature", "top_p", "seed"}) | _PENALTIES
_LOCAL_SAMPLING = frozenset({"top_k", "min_p", "repeat_penalty"})
_REASONING = frozenset({"reasoning_effort", "verbosity"})
_STOP = frozenset({"stop"})
_DROPPABLE = _SAMPLING | _LOCAL_SAMPLING | _REASONING

_COUNT_TOKENS = frozenset({ProviderKind.ANTHROPIC, ProviderKind.LOCAL})
_OPENAI_REASONING = re.compile(r"(o\d|gpt-[5-9])(?!.*chat)")
_XAI_REASONING = re.compile(r"grok-(4|code|3-mini)")
_XAI_FIXED_EFFORT = re.compile(r"grok-(4(-|$)|code)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """`context_window` is None where nobody states it; `takes` are the parameters it knows."""

    context_window: int | None
    takes: frozenset[str]
    counts_tokens: bool = False  # itself, without asking a model; else they are estimated

    @property
    def takes_temperature(self) -> bool:
        return "temperature" in self.takes

    def fit(self, parameters: Mapping[str, JsonValue], *, provider: str) -> dict[str, JsonValue]:
        """The parameters to send; a ProviderError names those that cannot be honoured."""
        refused = self.refused(parameters)
        if refused:
            raise ProviderError(
                ProviderErrorKind.INVALID_REQUEST,
                f"the model does not take {', '.join(refused)}",
                provider,
            )
        return {name: value for name, value in parameters.items() if name in self.takes}

    def refused(self, parameters: Mapping[str, JsonValue]) -> list[str]:
        return sorted(parameters.keys() - self.takes - _DROPPABLE)


@lru_cache(maxsize=1000)
def model_info(provider: str, model: str) -> ModelInfo:
    kind = ProviderKind.of(provider)
    return ModelInfo(
        context_window=library_context_window(provider, model),
        takes=_taken(kind, model.lower()),
        counts_tokens=kind in _COUNT_TOKENS,
    )


def _taken(kind: ProviderKind, model: str) -> frozenset[str]:
    match kind:
        case ProviderKind.OPENAI if _OPENAI_REASONING.match(model):
            return _REASONING | {"seed"}
        case ProviderKind.OPENAI:
            return _SAMPLING | _STOP
        case ProviderKind.XAI if _XAI_FIXED_EFFORT.match(model):
            return _SAMPLING - _PENALTIES
        case ProviderKind.XAI if _XAI_REASONING.match(model):
            return _SAMPLING - _PENALTIES | {"reasoning_effort"}
        case ProviderKind.XAI:
            return _SAMPLING | _STOP
        case ProviderKind.ANTHROPIC:
            return frozenset({"temperature", "top_p", "top_k"}) | _STOP
        case ProviderKind.SIMULATED:
            return frozenset(SimulatedOptions.model_fields) | _STOP
    return _SAMPLING | _LOCAL_SAMPLING | _STOP | {"reasoning_effort"}
