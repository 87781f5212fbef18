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


class ToolJournal(Protocol):
    """What it raises ends the attempt."""

    def begin(
        self, turn: int, calls: Sequence[ToolCall], *, repeatable: Collection[str]
    ) -> Mapping[str, ToolEnd]:
        """Note that these calls begin. Gives, by call, the ends of those that must not be made.

        They have ended before, or were cut off and are of a tool that is not `repeatable`.
        """
        ...

    def end(self, turn: int, call_id: str, end: ToolEnd) -> None: ...


class _NoJournal:
    def begin(
        self, turn: int, calls: Sequence[ToolCall], *, repeatable: Collection[str]
    ) -> Mapping[str, ToolEnd]:
        return {}

    def end(self, turn: int, call_id: str, end: ToolEnd) -> None:
        pass


NO_JOURNAL: Final[ToolJournal] = _NoJournal()
