"""The port to what is kept of tools: what they gave, for when an agent has to begin again."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, Self

from pydantic import JsonValue

from agents_app.core import values
from agents_app.core.errors import AgentsError, ToolFailedError, ToolNotAllowedError
from agents_app.core.model import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEnd:
    """What came of a call: an output, or an error in words that a model may read.

    `failure` is what it raised, as long as nobody had to keep it.
    """

    output: JsonValue = None
    error: str | None = None
    failure: AgentsError | None = field(default=None, compare=False)

    @classmethod
    def failed(cls, failure: ToolFailedError | ToolNotAllowedError) -> Self:
        return cls(error=values.clean_text(failure.detail), failure=failure)


IN_DOUBT: Final = ToolEnd(
    error="This was cut off. Nobody knows whether it has done its work; find out before you "
    "call it again."
)
# No end: a person has to agree before the call is made.
HELD: Final = ToolEnd(error="This was not called: a person has to agree to it first.")


class ToolJournal(Protocol):
    """What it raises ends the attempt."""

    def begin(
        self,
        turn: int,
        calls: Sequence[ToolCall],
        *,
        repeatable: Collection[str],
        held: Collection[str] = (),
    ) -> Mapping[str, ToolEnd]:
        """Note that these calls begin. Gives, by call, the ends of those that must not be made.

        They have ended before, or were cut off and are of a tool that is not `repeatable`. Those
        in `held`, by their ids, need a person's agreement: they are HELD until they have it, end
        as failed without it, and are made once with it, whatever their tool.
        """
        ...

    def end(self, turn: int, call_id: str, end: ToolEnd) -> None: ...


NOBODY_TO_ASK: Final = ToolEnd(
    error="This was not called: a person has to agree to it, and without a run nobody is asked."
)


class _NoJournal:
    def begin(
        self,
        turn: int,
        calls: Sequence[ToolCall],
        *,
        repeatable: Collection[str],
        held: Collection[str] = (),
    ) -> Mapping[str, ToolEnd]:
        return dict.fromkeys(held, NOBODY_TO_ASK)

    def end(self, turn: int, call_id: str, end: ToolEnd) -> None:
        pass


NO_JOURNAL: Final[ToolJournal] = _NoJournal()
