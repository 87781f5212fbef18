"""One call of a registered function, without a model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from pydantic import JsonValue

from agents_app.core import values
from agents_app.core.agent import (
    AgentConfig,
    Outcome,
    Ports,
    Problem,
    schema_problems,
    tool_problems,
)
from agents_app.core.approving import CallApproval, HeldCall
from agents_app.core.errors import ToolFailedError, ToolInDoubtError
from agents_app.core.hands import DueCall
from agents_app.core.journal import HELD, IN_DOUBT, ToolEnd
from agents_app.core.model import ToolCall
from agents_app.core.structured import check_output
from agents_app.core.tools import Toolbox


class ToolAgent:
    name = "tool"
    description = "Calls one registered function with the given arguments; no model."
    calls_model = False

    def problems(self, config: AgentConfig, tools: Toolbox) -> list[Problem]:
        found = []
        if not config.tool:
            found.append(Problem("tool", "a tool agent needs a tool"))
        elif fault := tools.fault(config.tool):
            found.append(Problem("tool", fault))
        else:
            found += _argument_problems(config, tools)
        return found + schema_problems(config) + tool_problems(config)

    def run(
        self,
        config: AgentConfig,
        *,
        inputs: Mapping[str, JsonValue],  # they are in the arguments already
        ports: Ports,
    ) -> Outcome:
        try:
            output = _called(config, ports)
        except _HeldError as held:
            return Outcome(output=None, text="", held=[held.call])
        if config.output_schema is not None:
            check_output(output, config.output_schema)
        return Outcome(output=output, text=values.as_text(output))


# Of its one call in the journal.
_TURN: Final = 1


def _called(config: AgentConfig, ports: Ports) -> JsonValue:
    call = ToolCall(id=config.tool, name=config.tool, arguments=dict(config.arguments))
    due = DueCall(call=call, tool=ports.tools[config.tool], context=ports.context)
    asked = due.tool.asks(call.arguments)
    # Nothing is kept of what may be repeated: it would cost each step two round trips more.
    is_kept = not due.tool.is_repeatable or asked is not None
    end = _end_before(config, due, ports, asked) if is_kept else None
    if end is None:
        due = replace(due, is_agreed=asked is not None)
        ((_, end),) = ports.hands.ends_of([due], within_seconds=config.deadline_seconds)
        if is_kept:
            ports.journal.end(_TURN, call.id, end)
    if end.failure is not None:
        raise end.failure
    if end.error is not None:
        raise ToolFailedError(config.tool, end.error)
    return end.output


class _HeldError(Exception):
    """A person has to agree to the call first."""

    def __init__(self, call: HeldCall) -> None:
        super().__init__(call)
        self.call = call


def _end_before(
    config: AgentConfig, due: DueCall, ports: Ports, asked: CallApproval | None
) -> ToolEnd | None:
    """What came of the call in an earlier attempt, if it was made; else it is noted to begin.

    Raises ToolInDoubtError where nobody knows what came of it.
    """
    call, repeatable = due.call, {config.tool} if config.repeats_in_doubt else ()
    held = [call.id] if asked else []
    end = ports.journal.begin(_TURN, [call], repeatable=repeatable, held=held).get(call.id)
    if end is HELD and asked:
        raise _HeldError(HeldCall(turn=_TURN, call=call, approval=asked, fails_step=True))
    if end is IN_DOUBT:
        raise ToolInDoubtError(config.tool)
    return end


def _argument_problems(config: AgentConfig, tools: Toolbox) -> list[Problem]:
    """Names that are unknown or missing. Values may be templates still, so only names count."""
    schema = tools[config.tool].parameters
    known = set(schema.get("properties", {}))
    missing = set(schema.get("required", ())) - config.arguments.keys()
    unknown = config.arguments.keys() - known
    return [Problem(f"arguments.{name}", "is required") for name in sorted(missing)] + [
        Problem(f"arguments.{name}", f"tool {config.tool!r} takes no such argument")
        for name in sorted(unknown)
    ]
