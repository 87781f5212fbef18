"""How long the texts of a run can become, told before it runs: in bytes of UTF-8.

What is given is measured, what a JSON Schema bounds is bounded by it, and what a model or a tool
will write has no bound. Values are checked against these schemas before they are used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from agents_app.core.observations import FRAME_BYTES, MOST_GROWTH, with_data_rule
from agents_app.core.values import text_size
from orchestrator.core.errors import MissingVariableError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.mapping import MAX_ITEMS
from orchestrator.core.plan import Plan, PlannedStep, is_given_outputs
from orchestrator.core.schema import Place, Schema, follow
from orchestrator.core.scope import implied_schema
from orchestrator.core.template import (
    MAX_RENDERED_BYTES,
    Expression,
    Literal,
    Path,
    look_up,
    parse,
)

_NULL: Final = len("null")
# The longest that a float is written as.
_NUMBER: Final = 25
_PER_CHARACTER: Final = 4
# A control character is written as \u0000.
_PER_ESCAPED: Final = 6
_WORK_MARKS: Final = 64
_INDEX: Final[Schema] = {"const": MAX_ITEMS - 1}
_ROUND: Final[Schema] = {"const": 1_000}


class Unknown:
    """Stands for a value that is only known at run time."""


UNKNOWN: Final = Unknown()


@dataclass(frozen=True, slots=True)
class Span:
    """The length of a text: at least, and at most. None: nothing bounds it."""

    least: int
    most: int | None

    def __add__(self, other: Span) -> Span:
        return Span(self.least + other.least, total([self.most, other.most]))


def total(amounts: Iterable[int | None]) -> int | None:
    """The sum, or None if anything in it has no bound."""
    found = 0
    for amount in amounts:
        if amount is None:
            return None
        found += amount
    return found


@dataclass(frozen=True, kw_only=True)
class View:
    """What the templates of a plan's steps see: of a run, or of a loop's rounds inside of one."""

    plan: Plan
    inputs: Schema | None = None
    input: Json | Unknown = UNKNOWN
    outer: View | None = None
    loop: PlannedStep | None = None  # the step of `outer` whose rounds these are

    def inside(self, loop: PlannedStep, body: Plan) -> View:
        return View(plan=body, inputs=self.inputs, input=self.input, outer=self, loop=loop)

    @cached_property
    def known(self) -> dict[str, Json]:
        """The variables whose values are given."""
        return {} if isinstance(self.input, Unknown) else {"input": self.input}

    def prompt_span(self, step: PlannedStep) -> Span:
        """Of the rendered prompt. A longer one than the platform renders fails before its call."""
        if is_given_outputs(step.config):
            return self._outputs_span(step)
        prompt = step.config.get("prompt")
        template = prompt if isinstance(prompt, str) else ""
        spans = [
            _exactly(part) if isinstance(part, str) else self._shown(part, step)
            for part in parse(template).parts
        ]
        if step.marked:
            spans.append(_exactly(with_data_rule(template).removeprefix(template)))
        least = sum(span.least for span in spans)
        most = total(span.most for span in spans)
        is_bounded = most is not None and most <= MAX_RENDERED_BYTES
        return Span(min(least, MAX_RENDERED_BYTES), most if is_bounded else None)

    def _outputs_span(self, step: PlannedStep) -> Span:
        """Of the outputs of the steps that it needs, marked as such."""
        sizes = (most_bytes(self._of_output(name, ()), is_bare=True) for name in step.needs)
        most = total(sizes)
        if most is None:
            return Span(0, None)
        # What looks like a mark is escaped in them, and takes more room then.
        return Span(0, 2 * most + sum(len(name) + _WORK_MARKS for name in step.needs))

    def items(self, step: PlannedStep) -> list[Json] | None:
        """The list that the step's map goes over, if that is given."""
        lone = parse(step.map.over).lone if step.map else None
        value = self._value(lone) if lone else UNKNOWN
        return value if isinstance(value, list) else None

    def most_items(self, step: PlannedStep) -> int | None:
        """How many items the step's map can have, as far as its author has said."""
        if step.map is None:
            return 1
        given = self.items(step)
        if given is not None:
            return min(len(given), MAX_ITEMS)
        schema = self._lone_schema(step) or {}
        declared = schema.get("maxItems") if schema.get("type") == "array" else None
        bounds = [bound for bound in (step.map.max_items, declared) if isinstance(bound, int)]
        return min([*bounds, MAX_ITEMS]) if bounds else None

    def _shown(self, expression: Expression, step: PlannedStep) -> Span:
        """With the marks around it, if a tool may have brought it."""
        span = self._expression(expression, step)
        if not step.marked or span.most is None:
            return span
        return Span(span.least, MOST_GROWTH * span.most + FRAME_BYTES)

    def _expression(self, expression: Expression, step: PlannedStep) -> Span:
        spans = []
        for operand in expression.operands:
            given = self._given(operand, step)
            if given is None:
                spans.append(self._open_span(operand, step))
                continue
            # Where it is null, the next one counts.
            spans += [_exactly(value) for value in given if value is not None]
            if None not in given:
                return _either(spans)
        return _either([*spans, Span(_NULL, _NULL)])

    def _open_span(self, operand: Path | Literal, step: PlannedStep) -> Span:
        schema = self._schema(operand, step) if isinstance(operand, Path) else None
        return Span(0, most_bytes(schema, is_bare=True))

    def _given(self, operand: Path | Literal, step: PlannedStep) -> list[Json] | None:
        """The values that it can have, one for each item of a map; None: they are not given."""
        value = self._value(Expression((operand,)))
        if not isinstance(value, Unknown):
            return [value]
        return self._in_items(operand, step) if isinstance(operand, Path) else None

    def _value(self, expression: Expression) -> Json | Unknown:
        """What the expression gives, or UNKNOWN if that depends on what is not given."""
        for operand in expression.operands:
            if isinstance(operand, Literal):
                value = operand.value
            elif operand.parts[0] not in self.known:
                return UNKNOWN
            else:
                value = _found(operand, self.known)
            if value is not None:
                return value
        return None

    def _in_items(self, path: Path, step: PlannedStep) -> list[Json] | None:
        if path.parts[0] != "item":
            return None
        if step.map is None:
            return self.outer._in_items(path, self.loop) if self.outer and self.loop else None
        items = self.items(step)
        return [_found(path, {"item": item}) for item in items] if items else None

    def _schema(self, path: Path, step: PlannedStep) -> Schema | None:
        match path.parts:
            case ("input", *rest):
                return _followed(self.inputs, rest, has_defaults=True)
            case ("steps", name, "output", *rest):
                return self._of_output(name, rest)
            case ("loop", "previous", name, "output", *rest) if name in self.plan.names:
                return self._of_output(name, rest)
            case ("loop", "round"):
                return _ROUND
            case ("index",):
                return _INDEX
            case ("item", *rest):
                return self._of_item(step, rest)
        return None

    def _of_output(self, name: str, rest: Sequence[str]) -> Schema | None:
        if name in self.plan.names:
            return _followed(_output_schema(self.plan.step(name)), rest)
        return self.outer._of_output(name, rest) if self.outer else None

    def _of_item(self, step: PlannedStep, rest: Sequence[str]) -> Schema | None:
        if step.map is None:
            return self.outer._of_item(self.loop, rest) if self.outer and self.loop else None
        listed = self._lone_schema(step) or {}
        items = None if "prefixItems" in listed else listed.get("items")
        return _followed(items, rest) if isinstance(items, dict) else None

    def _lone_schema(self, step: PlannedStep) -> Schema | None:
        """Of the list that the step's map goes over, where that is a single variable."""
        lone = parse(step.map.over).lone if step.map else None
        if lone is None or len(lone.operands) > 1 or not lone.paths:
            return None
        return self._schema(lone.paths[0], step)


def most_bytes(schema: Schema | None, *, is_bare: bool = False) -> int | None:
    """How long the JSON of a value that fits can be, or, `is_bare`, what is put into a prompt.

    None where the schema does not bound it. Keywords only ever narrow what fits, so those that are
    not looked at do no harm.
    """
    if schema is None:
        return None
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(listed, list):
        return max((_size(value, is_bare=is_bare) for value in listed), default=0)
    declared = schema.get("type")
    types = declared if isinstance(declared, list) else [declared]
    sizes = [_most_of_type(str(name), schema, is_bare=is_bare) for name in types]
    return None if None in sizes else max(_whole(sizes), default=0)


def _most_of_type(name: str, schema: Schema, *, is_bare: bool) -> int | None:
    match name:
        case "boolean":
            return len("false")
        case "null":
            return _NULL
        case "integer" | "number":
            return _most_of_number(schema)
        case "string":
            return _most_of_text(schema.get("maxLength"), is_bare=is_bare)
        case "array":
            return _most_of_list(schema)
        case "object":
            return _most_of_object(schema)
    return None


def _most_of_text(length: Json, *, is_bare: bool) -> int | None:
    if not isinstance(length, int):
        return None
    return _PER_CHARACTER * length if is_bare else _PER_ESCAPED * length + len('""')


def _most_of_number(schema: Schema) -> int | None:
    bounds = [schema.get("minimum"), schema.get("maximum")]
    if not all(isinstance(bound, int | float) for bound in bounds):
        return None
    return max(_NUMBER, *(len(str(bound)) for bound in bounds))


def _most_of_list(schema: Schema) -> int | None:
    length, items = schema.get("maxItems"), schema.get("items")
    if not isinstance(length, int) or not isinstance(items, dict) or "prefixItems" in schema:
        return None
    each = most_bytes(items)
    return None if each is None else len("[]") + length * (each + len(", "))


def _most_of_object(schema: Schema) -> int | None:
    properties = schema.get("properties", {})
    is_open = schema.get("additionalProperties") is not False or "patternProperties" in schema
    if is_open or not isinstance(properties, dict):
        return None
    sizes = (
        total([most_bytes(value) if isinstance(value, dict) else None, _size(name), len(": , ")])
        for name, value in properties.items()
    )
    return total([len("{}"), *sizes])


def _output_schema(step: PlannedStep) -> Schema | None:
    is_open = step.kind != "agent" or step.adds_steps
    declared = step.config.get("output_schema")
    schema: Schema | None = None
    if not is_open:
        implied = implied_schema(step.config, needs=step.needs)
        schema = declared if isinstance(declared, dict) else implied
    if step.map is None:
        return schema
    # A failed item leaves null.
    return None if schema is None else {"type": "array", "items": dict(schema)}


def _followed(
    schema: Schema | None, parts: Sequence[str], *, has_defaults: bool = False
) -> Schema | None:
    place = follow(schema, parts, root="", has_defaults=has_defaults)
    return place.schema if isinstance(place, Place) else None


def _found(path: Path, context: Mapping[str, Json]) -> Json:
    try:
        return look_up(path, context)
    except MissingVariableError:
        return None


def _either(spans: Sequence[Span]) -> Span:
    mosts = [span.most for span in spans]
    return Span(min(span.least for span in spans), None if None in mosts else max(_whole(mosts)))


def _exactly(value: Json) -> Span:
    size = _size(value, is_bare=True)
    return Span(size, size)


def _size(value: Json, *, is_bare: bool = False) -> int:
    if is_bare and isinstance(value, str):
        return text_size(value)
    return text_size(json.dumps(value, ensure_ascii=False))


def _whole(amounts: Iterable[int | None]) -> Iterator[int]:
    return (amount for amount in amounts if amount is not None)
