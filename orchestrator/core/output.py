"""The final output of a run: its declared mapping, or what its exit steps gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agents_app.core.values import json_size
from orchestrator.core.errors import TemplateError, TemplateTooLargeError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.plan import Plan
from orchestrator.core.template import render

MAX_OUTPUT_BYTES = 10_000_000
_TOO_LARGE = (
    f"The output passes {MAX_OUTPUT_BYTES:,} bytes and is left out; "
    "let `output` name fewer or smaller parts"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """`problem` is one sentence about what could not be filled in; that is null."""

    value: Json
    problem: str | None = None


def assemble(
    plan: Plan,
    *,
    input: Json,
    outputs: Mapping[str, Json],
    around: Mapping[str, Json] | None = None,
) -> Output:
    """The output, given those of the completed steps in `plan.output_reads`.

    `around` has the variables beside `input` and `steps`: those of a loop, or of an item.
    A run that has done its work is not failed by its output: what cannot be filled in is null,
    and so is the whole if it is too large.
    """
    try:
        if plan.output is None:
            return Output(value=_of_exits(plan, outputs))
        known: dict[str, Json] = {name: {"output": outputs.get(name)} for name in plan.output_reads}
        filling = _Filling(context={**(around or {}), "input": input, "steps": known})
        value = filling.filled(plan.output)
        return Output(value=value, problem="; ".join(filling.problems) or None)
    except TemplateTooLargeError:
        return Output(value=None, problem=_TOO_LARGE)


def _of_exits(plan: Plan, outputs: Mapping[str, Json]) -> Json:
    budget = _Budget()
    for name in plan.exits:
        budget.spend(outputs.get(name))
    if len(plan.exits) == 1:
        return outputs.get(plan.exits[0])
    return {name: outputs.get(name) for name in plan.exits}


@dataclass(slots=True)
class _Budget:
    """Bytes that the output may still take; counted part by part, so that no text holds it all."""

    left: int = MAX_OUTPUT_BYTES

    def spend(self, value: Json) -> None:
        self.left -= json_size(value)
        if self.left < 0:
            raise TemplateTooLargeError(_TOO_LARGE)


@dataclass(slots=True, kw_only=True)
class _Filling:
    context: Mapping[str, Json]
    budget: _Budget = field(default_factory=_Budget)
    problems: list[str] = field(default_factory=list)

    def filled(self, value: Json) -> Json:
        if isinstance(value, dict):
            return {key: self.filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        rendered = self._rendered(value)
        self.budget.spend(rendered)
        return rendered

    def _rendered(self, value: Json) -> Json:
        try:
            return render(value, self.context, max_bytes=self.budget.left)
        except TemplateTooLargeError:
            raise
        except TemplateError as error:
            self.problems.append(str(error))
            return None
