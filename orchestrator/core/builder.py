"""Workflows written in Python, into the same spec as every other form.

    with Workflow("research-report", inputs={...}) as w:
        outline = w.step("outline", agent="planner", prompt="Outline ${input.topic}")
        review = w.step("review", agent="reviewer", prompt=f"Review {outline}")
        outline >> review

A decorated function describes a step too. Its parameters name earlier steps, or the run's input;
what it returns, or else its docstring, is the prompt:

    @w.step(agent="writer")
    def summary(outline, review):
        return f"Sum up {outline}, and heed {review.score}"
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TypeAlias, overload

from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.problems import Problem, pointer
from orchestrator.core.spec import FORMAT_VERSION, WorkflowSpec


class Variable:
    """A `${...}` in the making: written into text, it is one; its attributes lead further."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __getattr__(self, name: str) -> Variable:
        if name.startswith("__"):
            raise AttributeError(name)
        return Variable(f"{self._path}.{name}")

    def __getitem__(self, key: str | int) -> Variable:
        return Variable(f"{self._path}.{key}")

    def __str__(self) -> str:
        return f"${{{self._path}}}"

    def __format__(self, format_spec: str) -> str:
        return format(str(self), format_spec)


class Step:
    """A step of a workflow. `a >> b` lets b wait for a, on either side also for lists of steps."""

    def __init__(self, name: str, fields: dict[str, Json]) -> None:
        self.name = name
        self.fields = fields
        self.output = Variable(f"steps.{name}.output")

    def __str__(self) -> str:
        return str(self.output)

    def __rshift__(self, followers: Steps) -> Steps:
        for follower in _each(followers):
            follower.wait_for(self)
        return followers

    def __rrshift__(self, needs: Iterable[Step]) -> Step:
        for need in needs:
            self.wait_for(need)
        return self

    def wait_for(self, need: Step) -> None:
        needs = self.fields.setdefault("needs", [])
        if isinstance(needs, list) and need.name not in needs:
            needs.append(need.name)


Steps: TypeAlias = "Step | list[Step]"
Prompt: TypeAlias = "Callable[..., str | None]"


def _each(steps: Steps) -> list[Step]:
    return [steps] if isinstance(steps, Step) else steps


class Workflow:
    """Collects steps; `spec` is the result, with the same errors as every other form.

    Fields carry the names of the file format: `strategy`, `inputs`, `defaults`, `output`, ...
    """

    def __init__(self, name: str, **fields: Json) -> None:
        self._fields: dict[str, Json] = {"muster": FORMAT_VERSION, "name": name, **fields}
        self._steps: list[Step] = []
        self.input = Variable("input")

    def __enter__(self) -> Workflow:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaving the block checks the form, so that a mistake shows where it was made."""
        if kind is None:
            self.spec  # noqa: B018

    @overload
    def step(self, name: str, /, **fields: Json) -> Step: ...
    @overload
    def step(self, name: None = None, /, **fields: Json) -> Callable[[Prompt], Step]: ...
    def step(self, name: str | None = None, /, **fields: Json) -> Step | Callable[[Prompt], Step]:
        """Add a step, or, without a name, turn the function below into one."""
        if name is not None:
            return self._add(name, fields)
        return lambda function: self._add_function(function, fields)

    def output(self, value: Json) -> None:
        """Declare what the run gives."""
        self._fields["output"] = _plain(value)

    @property
    def spec(self) -> WorkflowSpec:
        steps: list[Json] = [{"name": step.name, **step.fields} for step in self._steps]
        return spec_from_mapping(_plain({**self._fields, "steps": steps}))

    def _add(self, name: str, fields: dict[str, Json]) -> Step:
        step = Step(name, {key: _plain(value) for key, value in fields.items()})
        self._steps.append(step)
        return step

    def _add_function(self, function: Prompt, fields: dict[str, Json]) -> Step:
        name = function.__name__
        known = {step.name: step for step in self._steps}
        wanted = list(inspect.signature(function).parameters)
        unknown = [each for each in wanted if each not in known and each != "input"]
        if unknown:
            message = f"`{unknown[0]}` is neither an earlier step nor `input`"
            raise WorkflowInvalidError([Problem(pointer("steps", name), "unknown_step", message)])
        values = {each: self.input if each == "input" else known[each].output for each in wanted}
        prompt = function(**values) or inspect.getdoc(function) or ""
        step = self._add(name, {**fields, "prompt": prompt})
        for each in wanted:
            if each in known:
                step.wait_for(known[each])
        return step


def _plain(value: Json | Variable | Step) -> Json:
    """A copy in which variables and steps have become text."""
    if isinstance(value, (Variable, Step)):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
