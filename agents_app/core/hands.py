"""The port through which an agent calls tools, and knows how its time goes by."""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from agents_app.core import values
from agents_app.core.errors import ToolFailedError
from agents_app.core.journal import ToolEnd
from agents_app.core.model import ToolCall
from agents_app.core.tools import Tool, Toolbox


class ToolHands(Protocol):
    def now(self) -> float:
        """Seconds since whenever: only what lies between two of them means anything."""
        ...

    def ends_of(
        self, calls: Sequence[ToolCall], *, tools: Toolbox, within_seconds: float
    ) -> Iterator[tuple[str, ToolEnd]]:
        """Make the calls, and give what came of each, by its id, as it comes."""
        ...


def end_of(call: ToolCall, tool: Tool) -> ToolEnd:
    """Call a tool as it is asked for; a failure is an end like any other."""
    arguments = call.arguments if isinstance(call.arguments, dict) else {}
    try:
        return ToolEnd(output=tool.call(arguments))
    except ToolFailedError as error:
        return ToolEnd(error=values.clean_text(error.detail))


class _OneByOne:
    """One call after the other, for as long as each takes; time stands still."""

    def now(self) -> float:
        return 0.0

    def ends_of(
        self, calls: Sequence[ToolCall], *, tools: Toolbox, within_seconds: float
    ) -> Iterator[tuple[str, ToolEnd]]:
        for call in calls:
            yield call.id, end_of(call, tools[call.name])


ONE_BY_ONE: Final[ToolHands] = _OneByOne()
