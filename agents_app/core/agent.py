"""What an agent is: a configuration, a type that knows how to run it, and the ports it may use."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final, Protocol

from pydantic import JsonValue

from agents_app.core.approving import HeldCall
from agents_app.core.delegation import NO_DELEGATION, Delegating, Delegation
from agents_app.core.errors import AgentInvalidError, OutputInvalidError
from agents_app.core.hands import ONE_BY_ONE, ToolHands
from agents_app.core.journal import NO_JOURNAL, ToolJournal
from agents_app.core.json_schema import schema_fault
from agents_app.core.model import (
    DEFAULT_DEADLINE_SECONDS,
    DEFAULT_REPAIRS,
    DEFAULT_TURNS,
    JsonSchema,
    ModelClient,
)
from agents_app.core.roles import Role
from agents_app.core.tools import Toolbox, ToolContext

DEFAULT_TASKS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """One agent, ready to run: templates rendered, defaults filled in.

    Each type reads the fields it knows: `prompt` the model's, `tool` the tool's, `aggregator`
    mode and separator, `react` the model's and those of its loop, `evaluator` the model's,
    criteria and threshold, `router` the model's and its routes, `custom` its implementation, the
    model's and arguments. `delegates` are saved agents, and
    `workflows` published ones, that `react` and `planner` may hand tasks to, for at most
    `delegate_cost_usd` each. A planner hands out up to `max_tasks` tasks at a time, once a person
    has agreed: to any plan, or to those that may cost more than so much (`approve_above_usd`).
    `objective` is what patterns read where a prompt says more, `role_models` have a provider and a
    model for tasks of a role, and with `report` it gives its tasks beside its answer.
    With `repeats_in_doubt` a `tool` step makes a call again that was cut off, whatever its tool.
    `parameters` go to the model, except `max_output_tokens`, which bounds its answer. `memory` is
    what `MemorySettings` reads.
    """

    type: str
    role: Role | None = None
    provider: str = ""
    model: str = ""
    system: str = ""
    prompt: str = ""
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    output_schema: JsonSchema | None = None
    tools: Sequence[str] = ()
    delegates: Sequence[str] = ()
    workflows: Sequence[str] = ()
    delegate_cost_usd: str = ""
    max_tasks: int = DEFAULT_TASKS
    approve: bool = False
    approve_above_usd: str = ""
    objective: str = ""
    role_models: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    report: bool = False
    max_turns: int = DEFAULT_TURNS
    max_total_tokens: int | None = None
    repairs: int = DEFAULT_REPAIRS
    criteria: str = ""
    threshold: float | None = None
    routes: Sequence[str] = ()
    memory: Mapping[str, JsonValue] = field(default_factory=dict)
    tool: str = ""
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)
    implementation: str = ""
    mode: str = ""
    separator: str = "\n\n"
    adds_steps: bool = False
    repeats_in_doubt: bool = False
    deadline_seconds: float = DEFAULT_DEADLINE_SECONDS
    attempt: int = 1


# What its author describes; the rest is for whoever runs it.
DESCRIBED: Final = frozenset(each.name for each in fields(AgentConfig)) - {
    "adds_steps",
    "deadline_seconds",
    "attempt",
    "repeats_in_doubt",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """All that an agent can reach of the world outside.

    `context` is what its tools are told of its run; none where it runs by itself.
    """

    model: ModelClient
    tools: Toolbox
    context: ToolContext | None = None
    journal: ToolJournal = NO_JOURNAL
    hands: ToolHands = ONE_BY_ONE
    delegating: Delegating = NO_DELEGATION


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedSteps:
    """Steps that an agent adds to its run, as they would stand in a workflow file.

    `steps` is a mapping by name or a list of steps with a `name` each. `output` is what they give
    together, with variables in it; without it, what the last of them give. Whether they make sense
    is for whoever runs them to find out.
    """

    steps: JsonValue
    output: JsonValue = None

    @classmethod
    def of(cls, output: JsonValue) -> "AddedSteps":
        """The steps that an output describes. Raises OutputInvalidError."""
        if not isinstance(output, dict) or not isinstance(output.get("steps"), dict | list):
            raise OutputInvalidError("it must be an object whose `steps` are the steps to add")
        if unknown := ", ".join(sorted(output.keys() - {"steps", "output"})):
            raise OutputInvalidError(f"beside `steps` and `output` there is {unknown}; remove it")
        return cls(steps=output["steps"], output=output.get("output"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an agent hands on: JSON for the steps after it, text for people.

    Where it adds steps, `output` is for these; those after it get what the added ones come to.
    Where it `delegates` it is not done: it begins again once these have ended, and finds in its
    journal what came of them; so it does once people have decided on the calls that are `held`.
    """

    output: JsonValue
    text: str
    adds: AddedSteps | None = None
    delegates: Delegation | None = None
    held: Sequence[HeldCall] = ()

    @property
    def is_final(self) -> bool:
        return self.delegates is None and not self.held


@dataclass(frozen=True, slots=True)
class Problem:
    field: str
    message: str


def schema_problems(config: AgentConfig) -> list[Problem]:
    wrong = None if config.output_schema is None else schema_fault(config.output_schema)
    return [Problem("output_schema", wrong)] if wrong else []


def tool_problems(config: AgentConfig) -> list[Problem]:
    """Tools that are given to an agent whose type calls none."""
    told = f"a {config.type} agent calls no tools of its own; use the type react"
    return [Problem("tools", told)] if config.tools else []


class AgentType(Protocol):
    """One way of working. Instances hold no state and are shared between threads."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def calls_model(self) -> bool:
        """Whether running it costs model calls, so that it needs a provider and a price."""
        ...

    def problems(self, config: AgentConfig, tools: Toolbox) -> list[Problem]:
        """All that is wrong with a configuration, without running it.

        Prompt and arguments may still be templates.
        """
        ...

    def run(self, config: AgentConfig, *, inputs: Mapping[str, JsonValue], ports: Ports) -> Outcome:
        """Do the work. `inputs` are the outputs of the steps before, by step name."""
        ...


class AgentTypes:
    """The known agent types by name, in the order they were added."""

    def __init__(self, *types: AgentType) -> None:
        self._types: dict[str, AgentType] = {}
        for agent_type in types:
            self.add(agent_type)

    def add(self, agent_type: AgentType) -> None:
        if agent_type.name in self._types:
            raise ValueError(f"two agent types are named {agent_type.name!r}")
        self._types[agent_type.name] = agent_type

    def __getitem__(self, name: str) -> AgentType:
        try:
            return self._types[name]
        except KeyError:
            known = ", ".join(self._types)
            raise AgentInvalidError(f"no agent type {name!r}; known: {known}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def __iter__(self) -> Iterator[AgentType]:
        return iter(self._types.values())
