"""Keeping saved agents. What a step may still fill in is checked when a workflow is."""

from dataclasses import dataclass
from typing import Any, ClassVar

from agents_app.agent_types import ALL_TYPES
from agents_app.core.agent import DESCRIBED, AgentConfig
from agents_app.core.errors import AgentsError
from agents_app.models import Agent
from agents_app.selectors.toolboxes import toolbox_of
from tenants.scope import current_tenant_id
from tenants.services.errors import AlreadyExistsError

_FILLED_IN_LATER = frozenset({"prompt", "model", "arguments", "objective"})
# What has no column of its own.
_SETTINGS = DESCRIBED - {column.name for column in Agent._meta.get_fields()}


@dataclass(frozen=True, slots=True)
class FieldProblem:
    loc: str
    code: str
    message: str


class AgentRefusedError(AgentsError):
    """The agent could not work, whatever a step adds; all problems are listed."""

    code: ClassVar[str] = "agent_invalid"

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(f"{problem.loc}: {problem.message}" for problem in self.problems)


def create_agent(**fields: Any) -> Agent:
    agent = Agent(**{"name": fields["slug"], **fields})
    _refuse_taken(agent.slug)
    check_agent(agent)
    agent.capabilities = list(dict.fromkeys(agent.capabilities))
    agent.save(force_insert=True)
    return agent


def change_agent(agent: Agent, **changes: Any) -> Agent:
    """Change the saved agent. Published versions hold a copy of their own."""
    if changes.get("slug", agent.slug) != agent.slug:
        _refuse_taken(changes["slug"])
    for field, value in changes.items():
        setattr(agent, field, value)
    check_agent(agent)
    agent.capabilities = list(dict.fromkeys(agent.capabilities))
    agent.save(update_fields=[*changes, "updated_at"])
    return agent


def delete_agent(agent: Agent) -> None:
    agent.delete()


def _refuse_taken(slug: str) -> None:
    if Agent.objects.filter(slug=slug).exists():
        raise AlreadyExistsError("agent", slug, "/slug")


def check_agent(agent: Agent) -> None:
    """Raises AgentRefusedError with everything that would keep the agent from ever working."""
    config = AgentConfig(
        type=agent.type,
        parameters=agent.parameters,
        output_schema=agent.output_schema,
        tools=agent.tools,
        **{name: value for name, value in agent.settings.items() if name in _SETTINGS},
    )
    found = ALL_TYPES[agent.type].problems(config, toolbox_of(current_tenant_id()))
    problems = tuple(
        FieldProblem(_place(problem.field), "invalid", problem.message)
        for problem in found
        if problem.field.partition(".")[0] not in _FILLED_IN_LATER
    )
    if problems:
        raise AgentRefusedError(problems)


def _place(field: str) -> str:
    parts = field.split(".")
    return "/" + "/".join(["settings", *parts] if parts[0] in _SETTINGS else parts)
