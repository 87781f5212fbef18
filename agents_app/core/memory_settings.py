"""What an agent may be set to remember."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents_app.core.agent import AgentConfig, Problem
from agents_app.core.errors import AgentInvalidError

# It has one answer, and no turns of which some could be left out.
_AT_ONCE: Final = "prompt"
_OF_TURNS: Final = frozenset({"max_tokens", "summary"})


class MemorySettings(BaseModel):
    """`max_tokens` is what its model reads in one call at most, as far as its turns are concerned.

    Of a longer conversation the latest turns are kept, and with `summary` notes of the others.
    `recall` is how many entries of its memory that fit its prompt are put behind it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    max_tokens: Annotated[int, Field(ge=500, le=10_000_000)] | None = None
    summary: bool = False
    recall: Annotated[int, Field(ge=1, le=20)] | None = None

    @classmethod
    def of(cls, config: AgentConfig) -> "MemorySettings":
        """Raises AgentInvalidError."""
        try:
            return cls.model_validate(dict(config.memory))
        except ValidationError as error:
            raise AgentInvalidError(f"memory: {error.errors()[0]['msg']}") from error


def memory_problems(config: AgentConfig) -> list[Problem]:
    """What is wrong with the settings, of which some types of agents have no use for some."""
    try:
        settings = MemorySettings.model_validate(dict(config.memory))
    except ValidationError as error:
        return [
            Problem(".".join(["memory", *map(str, problem["loc"])]), problem["msg"])
            for problem in error.errors(include_url=False)
        ]
    useless = _OF_TURNS & config.memory.keys() if config.type == _AT_ONCE else ()
    told = f"a {config.type} agent answers at once; use the type react"
    found = [Problem(f"memory.{name}", told) for name in sorted(useless)]
    if settings.summary and settings.max_tokens is None:
        found.append(Problem("memory.summary", "needs max_tokens, beyond which it sums up"))
    return found
