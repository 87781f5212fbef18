"""Checks what templates and conditions read, seen from the place where they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.core.conditions import compile_condition
from orchestrator.core.errors import ConditionError, TemplateError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.problems import Problem, did_you_mean, pointer
from orchestrator.core.schema import Place, Schema, may_fit, types_of, value_problems
from orchestrator.core.scope import Fault, Scope
from orchestrator.core.template import Expression, Path, Template, expressions


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads the templates and conditions of one step, or of the end of its scope.

    `is_before_map`: what is read is rendered before the step's own map has items.
    """

    scope: Scope
    step: str | None
    is_before_map: bool = False

    def templates(self, value: Json, at: str, *, want: Schema | None = None) -> Iterator[Problem]:
        """Problems of the variables in `value`, and of its type where `want` is known."""
        try:
            found = list(expressions(value))
        except TemplateError as error:
            yield Problem(at, error.code, str(error))
            return
        if not found and want is not None:
            yield from value_problems(value, want, at=at)
        for way, template in found:
            place = at + pointer(*way)
            for expression in template.expressions:
                yield from self._expression(expression, at=place)
            if want is not None and not way:
                yield from self._type(template, want=want, at=place)

    def condition(self, source: str | None, *, at: str) -> Iterator[Problem]:
        if source is None:
            return
        try:
            condition = compile_condition(source)
        except ConditionError as error:
            yield Problem(at, "invalid_condition", str(error))
            return
        for fault in self.scope.read_by(condition, step=self.step):
            yield Problem(at, fault.code, fault.message)
        for path, texts in condition.compared:
            yield from self._comparison(Path(path), texts, at=at)

    def _comparison(self, path: Path, texts: Sequence[str], *, at: str) -> Iterator[Problem]:
        """Texts that the value behind a path can never be."""
        place = self._resolve(path)
        options = place.schema.get("enum") if isinstance(place, Place) and place.schema else None
        if not isinstance(options, list):
            return
        for text in texts:
            if text not in options:
                known = ", ".join(map(str, options))
                hint = did_you_mean(text, [str(option) for option in options])
                message = f"`{path}` is never `{text}`, but one of {known}{hint}"
                yield Problem(at, "never_true", message)

    def _expression(self, expression: Expression, *, at: str) -> Iterator[Problem]:
        for operand in expression.paths:
            place = self._resolve(operand)
            if isinstance(place, Fault):
                yield Problem(at, place.code, place.message)
            elif place.may_be_missing and operand is expression.operands[-1]:
                message = f"`{operand}` may be missing; write ${{{operand} ?? 'a default'}}"
                yield Problem(at, "may_be_missing", message)

    def _type(self, template: Template, *, want: Schema, at: str) -> Iterator[Problem]:
        expression = template.lone
        if expression is None:
            have: Schema | None = {"type": "string"}
        elif len(expression.operands) == 1 and isinstance(expression.operands[0], Path):
            place = self._resolve(expression.operands[0])
            have = place.schema if isinstance(place, Place) else None
        else:
            return
        if not may_fit(have, want):
            given, wanted = (" or ".join(sorted(types_of(s) or ())) for s in (have, want))
            yield Problem(at, "wrong_type", f"This gives {given}, where {wanted} is needed")

    def _resolve(self, path: Path) -> Place | Fault:
        resolve = self.scope.resolve_before_map if self.is_before_map else self.scope.resolve
        return resolve(path, step=self.step)
