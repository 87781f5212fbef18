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


class _NoCompleting:
    def complete(self, wanted: Completion, *, call_id: UUID) -> ModelReply:
        raise CompletionRefusedError(
            "only agents with a model of their own can ask one; let a step of type prompt do it"
        )


NO_COMPLETING: Final[Completing] = _NoCompleting()
