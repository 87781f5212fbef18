"""Does a workflow make sense: every problem at once, each with its place and its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from agents_app.core.agent import AgentConfig as AgentSettings
from agents_app.core.json_schema import schema_fault
from agents_app.core.memory_settings import memory_problems
from orchestrator.core import parsing
from orchestrator.core.collector import paused_collector
from orchestrator.core.config import OVERRIDES, AgentConfig, step_config
from orchestrator.core.degrade import ladder_problems
from orchestrator.core.jsonvalue import Json
from orchestrator.core.order import order_problems
from orchestrator.core.plan import reads_beyond, reads_of_open
from orchestrator.core.problems import Problem, did_you_mean, limited, pointer
from orchestrator.core.reading import Reader
from orchestrator.core.schema import Schema
from orchestrator.core.scope import Scope
from orchestrator.core.spec import (
    BY_COMPLEXITY,
    FIELDS_OF_AGENT,
    JUDGING,
    WITHOUT_MODEL,
    AgentSpec,
    ByCapability,
    Defaults,
    ModelChoice,
    StepSpec,
    WorkflowSpec,
)
from orchestrator.core.support import not_yet

__all__ = ["Catalog", "Report", "examine", "not_yet", "validate"]

MAX_OUTPUT_TOKENS = 10_000_000
# Of loops. What stands in them has its place as its name, which has to fit its column.
MAX_NESTING = 4
_OVERRIDES = frozenset(OVERRIDES)
_SCHEMA = "output_schema"
# A prompt, with an answer in words or JSON.
_ANSWERING = frozenset({"prompt", "react", "planner", "pattern_planner"})


def _knows_every_model(_provider: str, _model: str) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """What a tenant has: the things that a workflow may refer to by name."""

    agents: Mapping[str, AgentConfig] = field(default_factory=dict)  # `capabilities` among it
    tools: Mapping[str, Schema] = field(default_factory=dict)  # JSON Schema of the arguments
    # What implementations are good for, by name.
    custom_agents: Mapping[str, Sequence[str]] = field(default_factory=dict)
    broken_agents: Mapping[str, str] = field(default_factory=dict)  # why
    withheld_agents: Mapping[str, str] = field(default_factory=dict)  # why, and what helps
    withheld_tools: Mapping[str, str] = field(default_factory=dict)  # why, and what helps
    providers: Mapping[str, bool] = field(default_factory=dict)  # is it configured?
    knows_model: Callable[[str, str], bool] = _knows_every_model
    workflows: Mapping[str, frozenset[int]] = field(default_factory=dict)  # published versions
    batching: frozenset[str] = frozenset()  # providers that take batches
    default_provider: str = ""

    def agents_with(self, capability: str) -> dict[str, AgentConfig]:
        """Who may take a step for it, by name: saved agents, and custom ones as they are."""
        return {
            name: agent
            for name, agent in sorted(self._all_agents.items())
            if capability in self._capabilities_of(agent)
        }

    @property
    def capabilities(self) -> list[str]:
        found = (self._capabilities_of(agent) for agent in self._all_agents.values())
        return sorted({each for of_agent in found for each in of_agent})

    @property
    def _all_agents(self) -> dict[str, AgentConfig]:
        allowed = (name for name in self.custom_agents if name not in self.withheld_agents)
        custom = {name: {"type": "custom", "implementation": name} for name in allowed}
        return {**custom, **self.agents}

    def _capabilities_of(self, agent: AgentConfig) -> set[str]:
        stated = agent.get("capabilities")
        own = map(str, stated) if isinstance(stated, list) else ()
        return {*own, *self.custom_agents.get(str(agent.get("implementation")), ())}


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
        unsupported=tuple(limited(not_yet(parsed.spec))),
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
        yield from ladder_problems(self.spec, broken=self.broken)
        scope = Scope(
            steps={step.name: step for step in self.spec.steps},
            agents=self.catalog.agents,
            defaults=self.spec.defaults,
            inputs=self.spec.inputs,
            broken=self.broken,
        )
        yield from self._steps(scope, at="/steps")
        yield from Reader(scope=scope, step=None).templates(self.spec.output, "/output")

    def _models(self) -> Iterator[Problem]:
        spec = self.spec
        choices: list[tuple[str, Defaults | ModelChoice]] = [("/defaults", spec.defaults)]
        choices += _fallbacks(spec.defaults, at="/defaults")
        choices += _fallbacks_of_steps(spec.steps, at="/steps")
        for index, rule in enumerate(spec.degrade or []):
            if rule.use:
                choices.append((pointer("degrade", index, "use"), rule.use))
        for at, choice in choices:
            if isinstance(choice, ModelChoice) and choice.model == BY_COMPLEXITY:
                message = f"Name the model; `{BY_COMPLEXITY}` stands for several"
                yield Problem(at + "/model", "not_applicable", message)
                continue
            yield from self._model(
                choice.provider,
                choice.model,
                provider_at=at + "/provider",
                model_at=at + "/model",
            )

    def _steps(self, scope: Scope, *, at: str) -> Iterator[Problem]:
        yield from order_problems(scope, at=at)
        for step in scope.steps.values():
            if step.name not in scope.broken:
                yield from self._step(step, scope=scope, at=at + pointer(step.name))

    def _step(self, step: StepSpec, *, scope: Scope, at: str) -> Iterator[Problem]:
        reader = Reader(scope=scope, step=step.name)
        yield from reader.condition(step.when, at=at + "/when")
        if step.map:
            before = replace(reader, is_before_map=True)
            yield from before.templates(step.map.over, at + "/map/over", want={"type": "array"})
        match step.kind:
            case "agent":
                yield from self._agent_step(step, reader=reader, at=at)
            case "workflow":
                yield from self._workflow(str(step.workflow), at=at + "/workflow")
                yield from reader.templates(step.input, at + "/input")
            case "loop":
                yield from self._loop(step, scope=scope, at=at + "/loop")
            case "approval":
                yield from self._approval(step, reader=reader, at=at + "/approval")

    def _agent_step(self, step: StepSpec, *, reader: Reader, at: str) -> Iterator[Problem]:
        if isinstance(step.agent, str):
            yield from self._agent(step.agent, at=at + "/agent")
        if isinstance(step.agent, ByCapability):
            yield from self._open_step(step, step.agent.capability, reader=reader, at=at)
            return
        yield from self._agent_in(step, reader.scope.config(step.name), reader=reader, at=at)

    def _open_step(
        self, step: StepSpec, capability: str, *, reader: Reader, at: str
    ) -> Iterator[Problem]:
        """One of the agents has to fit; what none of them can do with is the step's own fault."""
        agents = self.catalog.agents_with(capability)
        if not agents:
            yield self._unknown_capability(capability, at=at + "/agent/capability")
            return
        found = {}
        for name, agent in agents.items():
            config = step_config(step, agent=agent, defaults=self.spec.defaults)
            found[name] = [*self._agent_in(step, config, reader=reader, at=at)]
            # Only templates that can be read tell what they read.
            found[name] = found[name] or [*_beyond(step, config, at=at + "/agent/capability")]
        if not all(found.values()):
            return
        first, *others = found.values()
        shared = [problem for problem in first if all(problem in other for other in others)]
        if shared:
            yield from shared
            return
        told = "; ".join(f"`{name}`: {faults[0].message}" for name, faults in found.items())
        message = f"No agent that has the capability `{capability}` fits this step. {told}"
        yield Problem(at + "/agent/capability", "no_capable_agent", message)

    def _unknown_capability(self, capability: str, *, at: str) -> Problem:
        known = self.catalog.capabilities
        told = f"there are: {', '.join(known)}" if known else "no agent has any"
        hint = did_you_mean(capability, known)
        message = f"No agent has the capability `{capability}`{hint}; {told}"
        return Problem(at, "unknown_capability", message)

    def _agent_in(
        self, step: StepSpec, config: Mapping[str, Json], *, reader: Reader, at: str
    ) -> Iterator[Problem]:
        kind = str(config.get("type"))
        for name in _OVERRIDES - FIELDS_OF_AGENT.get(kind, _OVERRIDES):
            if getattr(step, name) is not None:
                message = f"`{name}` does not apply to an agent of type {kind}; remove it"
                yield Problem(at + pointer(name), "not_applicable", message)
        yield from self._allowed(config, step=step, at=at + "/agent")
        yield from self._config(config, reader=reader, place=_Places(step=step, at=at))
        if step.batch:
            yield from self._batch(config, at=at + "/batch")

    def _batch(self, config: Mapping[str, Json], *, at: str) -> Iterator[Problem]:
        kind = str(config.get("type"))
        if kind in WITHOUT_MODEL:
            message = f"An agent of type {kind} calls no model, so that there is nothing to batch"
            yield Problem(at, "not_applicable", message)
            return
        provider, batching = config.get("provider"), self.catalog.batching
        provider = provider if isinstance(provider, str) else self.catalog.default_provider
        if provider not in batching and self.catalog.providers.get(provider):
            those = ", ".join(sorted(batching)) or "none"
            message = (
                f"The provider `{provider}` takes no batches; remove `batch`, or name one that "
                f"does: {those}"
            )
            yield Problem(at, "batches_not_offered", message)

    def _allowed(self, config: Mapping[str, Json], *, step: StepSpec, at: str) -> Iterator[Problem]:
        kind = str(config.get("type"))
        is_custom = kind == "custom"
        name = str(config.get("implementation")) if is_custom else kind
        if isinstance(step.agent, AgentSpec):
            at += "/implementation" if is_custom else "/type"
        if is_custom and name in self.catalog.broken_agents:
            message = f"The custom agent `{name}` is broken: {self.catalog.broken_agents[name]}"
            yield Problem(at, "agent_broken", message)
        elif name in self.catalog.withheld_agents:
            message = f"The agent `{name}` {self.catalog.withheld_agents[name]}"
            yield Problem(at, "agent_not_allowed", message)
        elif is_custom and name not in self.catalog.custom_agents:
            hint = did_you_mean(name, self.catalog.custom_agents)
            yield Problem(at, "unknown_agent", f"There is no custom agent `{name}`{hint}")

    def _config(
        self, config: Mapping[str, Json], *, reader: Reader, place: _Places
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
            "objective": reader.templates,
            "tools": self._tools,
            "delegates": self._delegates,
            "workflows": self._workflows,
            "memory": partial(_memory_problems, kind=str(config.get("type"))),
        }
        for name, check in checks.items():
            if config.get(name) is not None:
                yield from check(config[name], place.of(name))
        yield from _unprompted(config, place)
        if config.get("type") == "tool":
            yield from self._tool_call(config, reader=reader, place=place)
        elif "arguments" in config:
            yield from reader.templates(config["arguments"], place.of("arguments"))

    def _tool_call(
        self, config: Mapping[str, Json], *, reader: Reader, place: _Places
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
                message = f"The tool `{name}` has no argument `{key}`{did_you_mean(key, known)}"
                yield Problem(at + pointer(key), "unknown_argument", message)
            # A part of a schema may refer to the definitions of the whole.
            wanted = {**want, "$defs": schema.get("$defs", {})} if isinstance(want, dict) else None
            yield from reader.templates(value, at + pointer(key), want=wanted)

    def _tools(self, names: Json, at: str) -> Iterator[Problem]:
        for index, name in enumerate(names if isinstance(names, list) else ()):
            yield from self._tool(str(name), at=at + pointer(index))

    def _delegates(self, slugs: Json, at: str) -> Iterator[Problem]:
        for index, slug in enumerate(slugs if isinstance(slugs, list) else ()):
            yield from self._agent(str(slug), at=at + pointer(index))

    def _agent(self, slug: str, *, at: str) -> Iterator[Problem]:
        if slug not in self.catalog.agents:
            message = f"There is no agent `{slug}`{did_you_mean(slug, self.catalog.agents)}"
            yield Problem(at, "unknown_agent", message)

    def _workflows(self, references: Json, at: str) -> Iterator[Problem]:
        for index, reference in enumerate(references if isinstance(references, list) else ()):
            yield from self._workflow(str(reference), at=at + pointer(index))

    def _tool(self, name: str, *, at: str) -> Iterator[Problem]:
        if withheld := self.catalog.withheld_tools.get(name):
            yield Problem(at, "tool_not_allowed", f"The tool `{name}` {withheld}")
        elif name not in self.catalog.tools:
            message = f"There is no tool `{name}`{did_you_mean(name, self.catalog.tools)}"
            yield Problem(at, "unknown_tool", message)

    def _model(
        self, provider: Json, model: Json, *, provider_at: str, model_at: str
    ) -> Iterator[Problem]:
        if not isinstance(provider, str):
            return
        providers = self.catalog.providers
        if provider not in providers:
            message = f"There is no provider `{provider}`{did_you_mean(provider, providers)}"
            yield Problem(provider_at, "unknown_provider", message)
        elif not providers[provider]:
            message = f"The provider `{provider}` is not configured; add its credential first"
            yield Problem(provider_at, "provider_not_configured", message)
        elif isinstance(model, str) and not self.catalog.knows_model(provider, model):
            message = (
                f"No price is known for the model `{model}` of `{provider}`; "
                "check its name, or add a price, since it cannot be called without one"
            )
            yield Problem(model_at, "unknown_model", message)

    def _schema(self, schema: Json, at: str) -> Iterator[Problem]:
        fault = schema_fault(schema) if isinstance(schema, dict) else None
        if fault:
            yield Problem(at, "invalid_schema", f"This is no usable JSON Schema: {fault}")

    def _workflow(self, reference: str, *, at: str) -> Iterator[Problem]:
        name, _, version = reference.partition("@")
        if name == self.spec.name:
            message = (
                "A workflow cannot call itself; put what repeats into a `loop`, "
                "or into a workflow of its own"
            )
            yield Problem(at, "calls_itself", message)
            return
        versions = self.catalog.workflows.get(name)
        if versions is None:
            hint = did_you_mean(name, self.catalog.workflows)
            message = f"There is no published workflow `{name}`{hint}"
            yield Problem(at, "unknown_workflow", message)
        elif version and int(version) not in versions:
            message = f"The workflow `{name}` has no version {version}"
            yield Problem(at, "unknown_workflow", message)

    def _loop(self, step: StepSpec, *, scope: Scope, at: str) -> Iterator[Problem]:
        if step.loop is None:
            return
        if scope.depth >= MAX_NESTING:
            yield Problem(at, "too_deep", f"Loops nest deeper than {MAX_NESTING}; take one out")
            return
        inner = scope.inside({each.name: each for each in step.loop.steps}, loop=step.name)
        yield from self._steps(inner, at=at + "/steps")
        end = Reader(scope=inner, step=None)
        yield from end.condition(step.loop.until, at=at + "/until")
        yield from end.templates(step.loop.output, at + "/output")

    def _approval(self, step: StepSpec, *, reader: Reader, at: str) -> Iterator[Problem]:
        if step.approval is None:
            return
        yield from reader.templates(step.approval.question, at + "/question")
        yield from reader.templates(step.approval.show, at + "/show")
        yield from self._schema(step.approval.form, at + "/form")


def _beyond(step: StepSpec, config: Mapping[str, Json], *, at: str) -> Iterator[Problem]:
    """What an agent of an open step reads that only runs some steps before it."""
    reads, previous_reads = reads_of_open(step)
    beyond = reads_beyond(config, needs=step.needs, reads=reads, previous_reads=previous_reads)
    if beyond:
        told = ", ".join(f"`{each}`" for each in beyond)
        message = f"Its agent reads {told}, which is not brought along; add it to `needs`"
        yield Problem(at, "no_capable_agent", message)


def _unprompted(config: Mapping[str, Json], place: _Places) -> Iterator[Problem]:
    kind = config.get("type")
    if kind in JUDGING:
        yield from _unjudged(config, place)
    if kind not in _ANSWERING:
        return
    if not config.get("prompt"):
        yield Problem(place.of("prompt"), "required", f"An agent of type {kind} needs a prompt")
    if place.step.adds_steps and not config.get(_SCHEMA):
        message = f"An agent of type {kind} that adds steps needs an output_schema"
        yield Problem(place.of(_SCHEMA), "required", message)


def _unjudged(config: Mapping[str, Json], place: _Places) -> Iterator[Problem]:
    kind = config.get("type")
    if not config.get("prompt") and not place.step.needs:
        message = f"An agent of type {kind} needs a prompt, or `needs` whose outputs it looks at"
        yield Problem(place.of("prompt"), "required", message)
    if place.step.adds_steps:
        message = f"An agent of type {kind} adds no steps; remove it"
        yield Problem(place.at + "/adds_steps", "not_applicable", message)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a step's setting was written: at the step, in its agent, or in the defaults."""

    step: StepSpec
    at: str

    def is_written(self, name: str) -> bool:
        """Whether the step or its agent sets it; what a saved agent sets counts too."""
        agent = self.step.agent
        if getattr(self.step, name) is not None or not isinstance(agent, AgentSpec):
            return True
        return getattr(agent, name) is not None

    def of(self, name: str) -> str:
        if getattr(self.step, name, None) is not None:
            return self.at + pointer(name)
        if isinstance(self.step.agent, AgentSpec) and name in FIELDS_OF_AGENT[self.step.agent.type]:
            return self.at + pointer("agent", name)
        return self.at + pointer(name)


def _fallbacks(part: Defaults | StepSpec, *, at: str) -> list[tuple[str, Defaults | ModelChoice]]:
    return [(f"{at}/fallback/{index}", choice) for index, choice in enumerate(part.fallback or [])]


def _fallbacks_of_steps(
    steps: Sequence[StepSpec], *, at: str
) -> Iterator[tuple[str, Defaults | ModelChoice]]:
    for step in steps:
        here = at + pointer(step.name)
        yield from _fallbacks(step, at=here)
        if step.loop is not None:
            yield from _fallbacks_of_steps(step.loop.steps, at=here + "/loop/steps")


def _memory_problems(memory: Json, at: str, *, kind: str) -> Iterator[Problem]:
    settings = memory if isinstance(memory, dict) else {}
    for problem in memory_problems(AgentSettings(type=kind, memory=settings)):
        _, *place = problem.field.split(".")
        yield Problem(at + pointer(*place), "invalid", problem.message)


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
