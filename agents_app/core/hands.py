"""The port through which an agent calls tools, and knows how its time goes by."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agents_app.core.errors import ToolFailedError, ToolNotAllowedError
from agents_app.core.journal import ToolEnd
from agents_app.core.model import ToolCall
from agents_app.core.tools import Tool, ToolContext

Ends = Iterator[tuple[str, ToolEnd]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DueCall:
    """A call that is to be made, and of which tool; `is_agreed` if a person has said so."""

    call: ToolCall
    tool: Tool
    context: ToolContext | None
    is_agreed: bool = False


class ToolHands(Protocol):
    def now(self) -> float:
        """Seconds since whenever: only what lies between two of them means anything."""
        ...

    def ends_of(self, calls: Sequence[DueCall], *, within_seconds: float) -> Ends:
        """Make the calls, and give what came of each, by its id, as it comes.

        What it raises ends the attempt, and the calls with it where they can be ended.
        """
        ...


def end_of(due: DueCall) -> ToolEnd:
    """Call a tool as it is asked for; a failure is an end like any other."""
    arguments = due.call.arguments if isinstance(due.call.arguments, dict) else {}
    try:
        return ToolEnd(
            output=due.tool.call(arguments, context=due.context, is_agreed=due.is_agreed)
        )
    except (ToolFailedError, ToolNotAllowedError) as error:
        return ToolEnd.failed(error)


class _OneByOne:
    """One call after the other, for as long as each takes; time stands still."""

    def now(self) -> float:
        return 0.0

    def ends_of(self, calls: Sequence[DueCall], *, within_seconds: float) -> Ends:
        for due in calls:
            yield due.call.id, end_of(due)


ONE_BY_ONE: Final[ToolHands] = _OneByOne()
