"""Does a workflow make sense: every problem at once, each with its place and its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from orchestrator.core import parsing
from orchestrator.core.collector import paused_collector
from orchestrator.core.conditions import Condition, compile_condition
from orchestrator.core.config import OVERRIDES, AgentConfig
from orchestrator.core.errors import ConditionError, TemplateError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.problems import Problem, limited, pointer
from orchestrator.core.schema import (
    Place,
    Schema,
    may_fit,
    schema_fault,
    types_of,
    value_problems,
)
from orchestrator.core.scope import Fault, Scope
from orchestrator.core.spec import (
    FIELDS_OF_AGENT,
    AgentSpec,
    Defaults,
    ModelChoice,
    StepSpec,
    WorkflowSpec,
)
from orchestrator.core.support import not_yet
from orchestrator.core.template import Expression, Path, Template, expressions

__all__ = ["Catalog", "Report", "examine", "not_yet", "validate"]

MAX_OUTPUT_TOKENS = 10_000_000
_OVERRIDES = frozenset(OVERRIDES)


def _knows_every_model(_provider: str, _model: str) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """What a tenant has: the things that a workflow may refer to by name."""

    agents: Mapping[str, AgentConfig] = field(default_factory=dict)
    tools: Mapping[str, Schema] = field(default_factory=dict)  # JSON Schema of the arguments
    providers: Mapping[str, bool] = field(default_factory=dict)  # is it configured?
    knows_model: Callable[[str, str], bool] = _knows_every_model
    workflows: Mapping[str, frozenset[int]] = field(default_factory=dict)  # published versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found. `unsupported` stands in the way of publishing alone."""

    spec: WorkflowSpec | None
    problems: tuple[Problem, ...]
    unsupported: tuple[Problem, ...] = ()

    @property
    def is_valid(self) -> bool:
        return not self.problems

    @property
    def can_publish(self) -> bool:
        return not self.problems and not self.unsupported


def examine(data: object, catalog: Catalog) -> Report:
    """Form and meaning of a workflow together: a typing error hides no other problem."""
    parsed = parsing.parse(data)
    if parsed.spec is None:
        return Report(spec=None, problems=parsed.problems)
    meaning = validate(parsed.spec, catalog, broken=parsed.broken)
    problems = dict.fromkeys([*parsed.problems, *meaning])
    return Report(
        spec=None if parsed.problems else parsed.spec,
        problems=tuple(limited(problems)),
        unsupported=tuple(limited(not_yet(parsed.spec, catalog.agents))),
    )


@paused_collector()
def validate(
    spec: WorkflowSpec, catalog: Catalog, *, broken: frozenset[str] = frozenset()
) -> list[Problem]:
    """The problems in what the workflow means; `broken` steps are known by name alone."""
    return limited(_Validator(spec=spec, catalog=catalog, broken=broken).problems())


@dataclass(frozen=True, kw_only=True)
class _Validator:
    spec: WorkflowSpec
    catalog: Catalog
    broken: frozenset[str]

    def problems(self) -> Iterator[Problem]:
        yield from self._schema(self.spec.inputs, "/inputs")
        yield from self._models()
        scope = Scope(
            steps={step.name: step for step in self.spec.steps},
            agents=self.catalog.agents,
            defaults=self.spec.defaults,
            inputs=self.spec.inputs,
            broken=self.broken,
        )
        yield from self._steps(scope, at="/steps")
        yield from _Reader(scope=scope, step=None).templates(self.spec.output, "/output")

    def _models(self) -> Iterator[Problem]:
        spec = self.spec
        choices: list[tuple[str, Defaults | ModelChoice]] = [("/defaults", spec.defaults)]
        choices += _fallbacks(spec.defaults, at="/defaults")
        for step in spec.steps:
            choices += _fallbacks(step, at=pointer("steps", step.name))
        for index, rule in enumerate(spec.degrade or []):
            if rule.use:
                choices.append((pointer("degrade", index, "use"), rule.use))
        for at, choice in choices:
            yield from self._model(
                choice.provider,
                choice.model,
                provider_at=at + "/provider",
                model_at=at + "/model",
            )

    def _steps(self, scope: Scope, *, at: str) -> Iterator[Problem]:
        yield from _needs_problems(scope.steps, at=at)
        yield from _cycle_problems(scope, at=at)
        yield from _never_run(scope, at=at)
        for step in scope.steps.values():
            if step.name not in scope.broken:
                yield from self._step(step, scope=scope, at=at + pointer(step.name))

    def _step(self, step: StepSpec, *, scope: Scope, at: str) -> Iterator[Problem]:
        reader = _Reader(scope=scope, step=step.name)
        yield from reader.condition(step.when, at=at + "/when")
        if step.map:
            yield from reader.templates(step.map.over, at + "/map/over", want={"type": "array"})
        match step.kind:
            case "agent":
                yield from self._agent_step(step, reader=reader, at=at)
            case "workflow":
                yield from self._sub_workflow(step, at=at)
                yield from reader.templates(step.input, at + "/input")
            case "loop":
                yield from self._loop(step, scope=scope, at=at + "/loop")
            case "approval":
                yield from self._approval(step, reader=reader, at=at + "/approval")

    def _agent_step(self, step: StepSpec, *, reader: _Reader, at: str) -> Iterator[Problem]:
        if isinstance(step.agent, str) and step.agent not in self.catalog.agents:
            message = f"There is no agent `{step.agent}`{_close(step.agent, self.catalog.agents)}"
            yield Problem(at + "/agent", "unknown_agent", message)
        config = reader.scope.config(step.name)
        kind = str(config.get("type"))
        for name in _OVERRIDES - FIELDS_OF_AGENT.get(kind, _OVERRIDES):
            if getattr(step, name) is not None:
                message = f"`{name}` does not apply to an agent of type {kind}; remove it"
                yield Problem(at + pointer(name), "not_applicable", message)
        yield from self._config(config, reader=reader, place=_Places(step=step, at=at))

    def _config(
        self, config: Mapping[str, Json], *, reader: _Reader, place: _Places
    ) -> Iterator[Problem]:
        if place.is_written("provider") or place.is_written("model"):
            yield from self._model(
                config.get("provider"),
                config.get("model"),
                provider_at=place.of("provider" if place.is_written("provider") else "model"),
                model_at=place.of("model"),
            )
        checks: Mapping[str, Callable[[Json, str], Iterator[Problem]]] = {
            "parameters": _parameter_problems,
            "output_schema": self._schema,
            "prompt": reader.templates,
            "tools": self._tools,
        }
        for name, check in checks.items():
            if config.get(name) is not None:
                yield from check(config[name], place.of(name))
        if config.get("type") == "prompt" and not config.get("prompt"):
            yield Problem(place.of("prompt"), "required", "An agent of type prompt needs a prompt")
        if config.get("type") == "tool":
            yield from self._tool_call(config, reader=reader, place=place)
        elif "arguments" in config:
            yield from reader.templates(config["arguments"], place.of("arguments"))

    def _tool_call(
        self, config: Mapping[str, Json], *, reader: _Reader, place: _Places
    ) -> Iterator[Problem]:
        name, arguments = str(config.get("tool")), config.get("arguments") or {}
        yield from self._tool(name, at=place.of("tool"))
        schema = self.catalog.tools.get(name)
        at = place.of("arguments")
        if schema is None or not isinstance(arguments, dict):
            yield from reader.templates(arguments, at)
            return
        properties = schema.get("properties")
        known = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        for missing in required if isinstance(required, list) else ():
            if missing not in arguments:
                message = f"The tool `{name}` needs the argument `{missing}`"
                yield Problem(at + pointer(str(missing)), "required", message)
        for key, value in arguments.items():
            want = known.get(key)
            if want is None and schema.get("additionalProperties", False) is False:
                message = f"The tool `{name}` has no argument `{key}`{_close(key, known)}"
                yield Problem(at + pointer(key), "unknown_argument", message)
            # A part of a schema may refer to the definitions of the whole.
            wanted = {**want, "$defs": schema.get("$defs", {})} if isinstance(want, dict) else None
            yield from reader.templates(value, at + pointer(key), want=wanted)

    def _tools(self, names: Json, at: str) -> Iterator[Problem]:
        for index, name in enumerate(names if isinstance(names, list) else ()):
            yield from self._tool(str(name), at=at + pointer(index))

    def _tool(self, name: str, *, at: str) -> Iterator[Problem]:
        if name not in self.catalog.tools:
            message = f"There is no tool `{name}`{_close(name, self.catalog.tools)}"
            yield Problem(at, "unknown_tool", message)

    def _model(
        self, provider: Json, model: Json, *, provider_at: str, model_at: str
    ) -> Iterator[Problem]:
        if not isinstance(provider, str):
            return
        providers = self.catalog.providers
        if provider not in providers:
            message = f"There is no provider `{provider}`{_close(provider, providers)}"
            yield Problem(provider_at, "unknown_provider", message)
        elif not providers[provider]:
            message = f"The provider `{provider}` is not configured; add its credential first"
            yield Problem(provider_at, "provider_not_configured", message)
        elif isinstance(model, str) and not self.catalog.knows_model(provider, model):
            message = f"The provider `{provider}` has no model `{model}`"
            yield Problem(model_at, "unknown_model", message)

    def _schema(self, schema: Json, at: str) -> Iterator[Problem]:
        fault = schema_fault(schema) if isinstance(schema, dict) else None
        if fault:
            yield Problem(at, "invalid_schema", f"This is no usable JSON Schema: {fault}")

    def _sub_workflow(self, step: StepSpec, *, at: str) -> Iterator[Problem]:
        name, _, version = str(step.workflow).partition("@")
        versions = self.catalog.workflows.get(name)
        if versions is None:
            message = (
                f"There is no published workflow `{name}`{_close(name, self.catalog.workflows)}"
            )
            yield Problem(at + "/workflow", "unknown_workflow", message)
        elif version and int(version) not in versions:
            message = f"The workflow `{name}` has no version {version}"
            yield Problem(at + "/workflow", "unknown_workflow", message)

    def _loop(self, step: StepSpec, *, scope: Scope, at: str) -> Iterator[Problem]:
        if step.loop is None:
            return
        inner = scope.inside({each.name: each for each in step.loop.steps}, loop=step.name)
        yield from self._steps(inner, at=at + "/steps")
        end = _Reader(scope=inner, step=None)
        yield from end.condition(step.loop.until, at=at + "/until")
        yield from end.templates(step.loop.output, at + "/output")

    def _approval(self, step: StepSpec, *, reader: _Reader, at: str) -> Iterator[Problem]:
        if step.approval is None:
            return
        yield from reader.templates(step.approval.question, at + "/question")
        yield from reader.templates(step.approval.show, at + "/show")
        yield from self._schema(step.approval.form, at + "/form")


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a step's setting was written: at the step, in its agent, or in the defaults."""

    step: StepSpec
    at: str

    def is_written(self, name: str) -> bool:
        """Whether the step or its agent sets it; what a saved agent sets counts too."""
        agent = self.step.agent
        if getattr(self.step, name) is not None or isinstance(agent, str):
            return True
        return getattr(agent, name) is not None

    def of(self, name: str) -> str:
        if getattr(self.step, name, None) is not None:
            return self.at + pointer(name)
        if isinstance(self.step.agent, AgentSpec) and name in FIELDS_OF_AGENT[self.step.agent.type]:
            return self.at + pointer("agent", name)
        return self.at + pointer(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads the templates and conditions of one step, or of the end of its scope."""

    scope: Scope
    step: str | None

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

    def _expression(self, expression: Expression, *, at: str) -> Iterator[Problem]:
        for operand in expression.paths:
            place = self.scope.resolve(operand, step=self.step)
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
            place = self.scope.resolve(expression.operands[0], step=self.step)
            have = place.schema if isinstance(place, Place) else None
        else:
            return
        if not may_fit(have, want):
            given, wanted = (" or ".join(sorted(types_of(s) or ())) for s in (have, want))
            yield Problem(at, "wrong_type", f"This gives {given}, where {wanted} is needed")


def _fallbacks(part: Defaults | StepSpec, *, at: str) -> list[tuple[str, Defaults | ModelChoice]]:
    return [(f"{at}/fallback/{index}", choice) for index, choice in enumerate(part.fallback or [])]


def _needs_problems(steps: Mapping[str, StepSpec], *, at: str) -> Iterator[Problem]:
    for name, step in steps.items():
        seen: set[str] = set()
        for index, need in enumerate(step.needs):
            place = at + pointer(name, "needs", index)
            if need == name:
                yield Problem(place, "self_dependency", f"`{name}` needs itself; remove it")
            elif need not in steps:
                message = f"There is no step `{need}`{_close(need, steps)}"
                yield Problem(place, "unknown_dependency", message)
            elif need in seen:
                yield Problem(place, "duplicate_dependency", f"`{need}` is named twice; keep one")
            seen.add(need)


def _cycle_problems(scope: Scope, *, at: str) -> Iterator[Problem]:
    for cycle in scope.cycles:
        message = f"Steps wait for each other: {_shown(cycle)}; remove one of these needs"
        yield Problem(at + pointer(cycle[-1], "needs"), "cycle", message)
    if not scope.cycles:
        return
    members = {name for cycle in scope.cycles for name in cycle}
    for name in sorted(_downstream(scope.known_needs, members) - members):
        message = f"`{name}` is never reached, since it needs a step of a cycle"
        yield Problem(at + pointer(name), "unreachable", message)


def _shown(cycle: tuple[str, ...]) -> str:
    return " -> ".join(cycle if len(cycle) <= 20 else (*cycle[:19], "...", cycle[-1]))


def _downstream(needs: Mapping[str, list[str]], start: set[str]) -> set[str]:
    followers: dict[str, list[str]] = {name: [] for name in needs}
    for name, of_step in needs.items():
        for need in of_step:
            followers[need].append(name)
    found, waiting = set(start), list(start)
    while waiting:
        fresh = [name for name in followers[waiting.pop()] if name not in found]
        found.update(fresh)
        waiting += fresh
    return found


def _never_run(scope: Scope, *, at: str) -> Iterator[Problem]:
    """Steps behind a condition that reads nothing and is false."""
    never: set[str] = set()
    for name in scope.order:
        needs = scope.needs[name]
        if _is_never(scope.steps[name].when):
            message = f"`{name}` is never reached, since its condition is always false"
        elif needs and never.issuperset(needs):
            message = f"`{name}` is never reached, since none of its needs ever runs"
        else:
            continue
        never.add(name)
        yield Problem(at + pointer(name), "unreachable", message)


def _is_never(source: str | None) -> bool:
    if source is None:
        return False
    try:
        condition: Condition = compile_condition(source)
        return not condition.roots and not condition.evaluate({})
    except ConditionError:
        return False


def _parameter_problems(parameters: Json, at: str) -> Iterator[Problem]:
    """The two that every provider knows; the others are for the provider to judge."""
    if not isinstance(parameters, dict):
        return
    temperature = parameters.get("temperature", 0)
    if type(temperature) not in {int, float} or not 0 <= temperature <= 2:  # type: ignore[operator]
        yield Problem(at + "/temperature", "out_of_range", "Write a number from 0 to 2")
    most = parameters.get("max_output_tokens", 1)
    if type(most) is not int or not 1 <= most <= MAX_OUTPUT_TOKENS:
        message = f"Write a whole number from 1 to {MAX_OUTPUT_TOKENS:,}"
        yield Problem(at + "/max_output_tokens", "out_of_range", message)


def _close(name: str, known: Mapping[str, object]) -> str:
    # Comparing with thousands of names takes longer than the rest of the validation.
    close = get_close_matches(name, list(known)[:1_000], n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
