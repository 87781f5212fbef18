"""Brings the outputs of the steps before together, without a model."""

from collections.abc import Callable, Mapping

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
from agents_app.core.errors import AgentInvalidError, OutputTooLargeError
from agents_app.core.structured import check_output
from agents_app.core.tools import Toolbox

# Half of what a whole run may give; a thousand answers of 5 KB.
MAX_COMBINED_BYTES = 5_000_000

Inputs = Mapping[str, JsonValue]


def collect(config: AgentConfig, inputs: Inputs) -> JsonValue:
    """An object with one entry per step; null for a step that gave nothing."""
    return _bounded(inputs)


def concat(config: AgentConfig, inputs: Inputs) -> JsonValue:
    """One text, the separator between the steps; steps that gave nothing are left out."""
    texts = [values.as_text(output) for output in inputs.values() if output is not None]
    # Reckoned first: a long separator between many steps would fill the memory.
    separators = values.text_size(config.separator) * max(len(texts) - 1, 0)
    _refuse_above_bound(separators + sum(map(values.text_size, texts)))
    return config.separator.join(texts)


def merge(config: AgentConfig, inputs: Inputs) -> JsonValue:
    """One object of all keys; a later step wins. Steps that gave nothing are left out."""
    merged: dict[str, JsonValue] = {}
    for step, output in inputs.items():
        if output is None:
            continue
        if not isinstance(output, dict):
            raise AgentInvalidError(
                f"cannot merge the output of step {step!r}: it is not an object; "
                "use mode collect or concat"
            )
        merged.update(output)
    return _bounded(merged)


def _bounded(combined: Inputs) -> JsonValue:
    # Entry by entry, so that what is too large is never one text.
    _refuse_above_bound(sum(values.json_size({name: item}) for name, item in combined.items()))
    return dict(combined)


def _refuse_above_bound(size: int) -> None:
    if size > MAX_COMBINED_BYTES:
        raise OutputTooLargeError(size, MAX_COMBINED_BYTES)


MODES: dict[str, Callable[[AgentConfig, Inputs], JsonValue]] = {
    "collect": collect,
    "concat": concat,
    "merge": merge,
}
DEFAULT_MODE = "collect"


class AggregatorAgent:
    name = "aggregator"
    description = "Combines the outputs of the steps before: collect, concat or merge; no model."
    calls_model = False

    def problems(self, config: AgentConfig, tools: Toolbox) -> list[Problem]:
        found = []
        if config.mode and config.mode not in MODES:
            found.append(Problem("mode", f"{config.mode!r} is none of {', '.join(MODES)}"))
        return found + schema_problems(config) + tool_problems(config)

    def run(self, config: AgentConfig, *, inputs: Inputs, ports: Ports) -> Outcome:
        mode = config.mode or DEFAULT_MODE
        if mode not in MODES:
            raise AgentInvalidError(f"mode {mode!r} is none of {', '.join(MODES)}")
        output = MODES[mode](config, inputs)
        if config.output_schema is not None:
            check_output(output, config.output_schema)
        return Outcome(output=output, text=values.as_text(output))
