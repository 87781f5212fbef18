"""The final output of a run: its declared mapping, or what its exit steps gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.core.errors import TemplateError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.plan import Plan
from orchestrator.core.template import render

MAX_OUTPUT_BYTES = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """`problem` is one sentence about the parts that could not be filled in; those are null."""

    value: Json
    problem: str | None = None


def assemble(plan: Plan, *, input: Json, outputs: Mapping[str, Json]) -> Output:
    """The output, given those of the completed steps in `plan.output_reads`.

    A run that has done its work is not failed by its output: what cannot be filled in is null.
    """
    if plan.output is None:
        return Output(value=_of_exits(plan, outputs))
    known: dict[str, Json] = {name: {"output": outputs.get(name)} for name in plan.output_reads}
    context: dict[str, Json] = {"input": input, "steps": known}
    problems: list[str] = []
    value = _filled(plan.output, context=context, problems=problems)
    return Output(value=value, problem="; ".join(problems) or None)


def _of_exits(plan: Plan, outputs: Mapping[str, Json]) -> Json:
    if len(plan.exits) == 1:
        return outputs.get(plan.exits[0])
    return {name: outputs.get(name) for name in plan.exits}


def _filled(value: Json, *, context: Mapping[str, Json], problems: list[str]) -> Json:
    if isinstance(value, dict):
        return {
            key: _filled(item, context=context, problems=problems) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_filled(item, context=context, problems=problems) for item in value]
    try:
        return render(value, context, max_bytes=MAX_OUTPUT_BYTES)
    except TemplateError as error:
        problems.append(str(error))
        return None
