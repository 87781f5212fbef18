"""The port through which a tool asks a model, by the same door as its agent."""

from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from agents_app.core.errors import CompletionRefusedError
from agents_app.core.model import ModelReply


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One question to a model. `model` is one that the step names; without it, the agent's own."""

    prompt: str
    system: str = ""
    model: str = ""
    max_output_tokens: int = 1_000


class Completing(Protocol):
    def complete(self, wanted: Completion, *, call_id: UUID) -> ModelReply:
        """The answer; a call that is made again, since its worker died, has the one that was paid.

        Raises CompletionRefusedError and ProviderError; what else it raises ends the attempt.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Refusing:
    told: str

    def complete(self, wanted: Completion, *, call_id: UUID) -> ModelReply:
        raise CompletionRefusedError(self.told)


NO_COMPLETING: Final[Completing] = _Refusing(
    "only agents with a model of their own can ask one; let a step of type prompt do it"
)
# What it asked would be in no price that was told before its run.
UNDECLARED: Final[Completing] = _Refusing(
    "only tools that say so can ask a model; its author has to declare it with asks_models=True"
)
