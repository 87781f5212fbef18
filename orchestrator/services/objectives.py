"""Runs that begin with an objective in plain words, and saving what they planned."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Final

from django.conf import settings

from agents_app.core.planning import Means
from agents_app.core.prompt_templates import TemplateSet
from agents_app.core.roles import Role
from agents_app.core.tools import Toolbox
from agents_app.models import Agent
from agents_app.selectors.prompt_templates import template_set
from agents_app.selectors.toolboxes import toolbox_of
from costs.core.money import format_usd
from orchestrator.core.errors import OrchestratorError, TemplateError, WorkflowInvalidError
from orchestrator.core.objectives import (
    MODULE,
    NAME,
    TIMEOUT,
    Team,
    carried_out,
    objective_spec,
    saved_spec,
    tool_line,
)
from orchestrator.core.parsing import spec_from_mapping, spec_to_mapping
from orchestrator.core.problems import Problem
from orchestrator.execution.providers import settings_for, unusable
from orchestrator.models import Run, Workflow, WorkflowVersion
from orchestrator.selectors.plans import PlannedRound, outermost, plans_of
from orchestrator.services.drafts import save_draft
from orchestrator.services.prompt_templates import PromptTemplateInvalidError, render
from orchestrator.services.runs import start_run
from orchestrator.services.workflows import compiled, publish_spec
from tenants.models import Project, Tenant
from tenants.scope import current_tenant_id
from tenants.selectors.credentials import serving_credentials

MAX_TOOLS: Final = 100
MAX_AGENTS: Final = 50
# Versions that are looked through for one that is the same.
_VERSIONS: Final = 20


class NothingPlannedError(OrchestratorError):
    """The run has no plan of which anything was carried out."""

    code: ClassVar[str] = "nothing_planned"

    def __str__(self) -> str:
        return "No task that this run planned has completed, so there is nothing to be saved."


class PlannerUnclearError(OrchestratorError):
    """Which plan is meant has to be said by its planner's step."""

    code: ClassVar[str] = "planner_unclear"
    loc: ClassVar[str] = "/step"

    def __init__(self, step: str | None, planners: Collection[str]) -> None:
        super().__init__(step, planners)
        self.step, self.planners = step, planners

    def __str__(self) -> str:
        known = ", ".join(sorted(self.planners))
        if self.step is None:
            return f"Several steps of the run have planned; say which: {known}"
        return f"`{self.step}` has planned nothing in this run; {known} have"


def start_objective(
    *,
    project: Project,
    objective: str,
    approve: bool = False,
    approve_above_nano: int | None = None,
    template: str | None = None,
    priority: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    deadline: timedelta | None = None,
    max_cost_nano: int | None = None,
) -> Run:
    """Start a run that plans what the objective asks for, does it, and answers.

    With `approve` a person sees each plan first; with `approve_above_nano` only those that may cost
    more, or that nobody can price. Raises what `start_run` does, NotFoundError for the template,
    PromptTemplateInvalidError if it cannot be rendered, and WorkflowInvalidError if the project has
    a workflow of its own by the name.
    """
    chosen, toolbox = template_set(template), toolbox_of(current_tenant_id())
    team = _team(chosen, toolbox)
    version = _version(
        project,
        objective_spec(
            team,
            approve=approve,
            approve_above_usd=(
                None if approve_above_nano is None else format_usd(approve_above_nano)
            ),
        ),
    )
    return start_run(
        workflow=version.workflow,
        version=version,
        input={"objective": objective, "task": _task(chosen, team, toolbox, objective)},
        priority=priority,
        metadata=metadata,
        deadline=deadline,
        max_cost_nano=max_cost_nano,
    )


def _task(chosen: TemplateSet, team: Team, toolbox: Toolbox, objective: str) -> str:
    lines = [
        tool_line(tool.name, tool.description, tool.parameters)
        for tool in (toolbox[name] for name in team.tools)
    ]
    described = Agent.objects.filter(slug__in=team.agents).values_list("slug", "description")
    agents = [f"- {slug}: {about}" for slug, about in described]
    # What is not there is left to the template's own words.
    variables = {"tools": "\n".join(lines) or None, "agents": "\n".join(agents) or None}
    try:
        return render(chosen, objective=objective, variables=variables).task
    except TemplateError as error:
        problem = Problem("/template", error.code, str(error))
        raise PromptTemplateInvalidError((problem,)) from error


def _team(chosen: TemplateSet, toolbox: Toolbox) -> Team:
    """All tools and agents of the tenant; its planner, if any provider can be called."""
    models = _models(chosen)
    return Team(
        tools=[tool.name for tool in toolbox][:MAX_TOOLS],
        agents=list(Agent.objects.order_by("slug").values_list("slug", flat=True)[:MAX_AGENTS]),
        planner=models.get(Role.PLANNER),
        models={role: choice for role, choice in models.items() if role != Role.PLANNER},
        system=chosen.system,
    )


def _models(chosen: TemplateSet) -> dict[str, dict[str, str]]:
    """By role: what the template set says, else the platform's usual provider; none without one."""
    tenant = Tenant.objects.get(id=current_tenant_id())
    own = serving_credentials()
    usual = settings.LLM_PROVIDER
    found: dict[str, dict[str, str]] = {}
    for role in (Role.PLANNER, Role.EXECUTOR, Role.REVIEWER):
        wanted = chosen.models.get(role)
        provider = wanted.provider if wanted else usual
        known = settings_for(provider, own)
        model = wanted.model if wanted else (known.model_for(role) if known else "")
        uses_environment = tenant.uses_environment_credentials
        if model and unusable(provider, own=own, uses_environment=uses_environment) is None:
            found[str(role)] = {"provider": provider, "model": model}
    return found


def _version(project: Project, spec: Mapping[str, Any]) -> WorkflowVersion:
    """The version that is so; published if there is none yet."""
    workflow = Workflow.objects.filter(project=project, name=NAME).first()
    if workflow is not None and workflow.module != MODULE:
        told = f"This project has a workflow `{NAME}` of its own; give it another name"
        raise WorkflowInvalidError([Problem("/objective", "name_taken", told)])
    parsed = spec_from_mapping(spec)
    written = spec_to_mapping(parsed)
    alike = [version for version in _latest(workflow) if version.spec == written]
    if alike:
        # Agents and models are frozen with a version, and may be others by now.
        _, plan = compiled(parsed, project)
        alike = [version for version in alike if version.plan == plan]
    return alike[0] if alike else publish_spec(project=project, spec=spec)


def _latest(workflow: Workflow | None) -> list[WorkflowVersion]:
    return list(workflow.versions.all()[:_VERSIONS]) if workflow else []


def save_plan(run: Run, *, name: str, step: str | None = None) -> Workflow:
    """A draft of what a planner of the run has planned and had carried out, in its project.

    `step` is the planner's; without it, the one whose plan is no part of another. What its tasks
    have planned themselves, they plan again. Raises NothingPlannedError, PlannerUnclearError, and
    what `save_draft` does where the name is taken.
    """
    rounds = _rounds_of(run, step)
    plan = carried_out((each.decision, each.statuses) for each in rounds)
    if not plan.tasks:
        raise NothingPlannedError
    models = _models(template_set())
    usual = models.get(Role.EXECUTOR) or {}
    means = Means(
        timeout=TIMEOUT,
        role_models=models,
        provider=usual.get("provider", ""),
        model=usual.get("model", ""),
    )
    objective = run.input.get("objective", "") if isinstance(run.input, dict) else ""
    spec = saved_spec(name, plan, means, objective=str(objective))
    return save_draft(project=run.project, spec=spec)


def _rounds_of(run: Run, step: str | None) -> list[PlannedRound]:
    rounds = plans_of(run)
    meant = [each for each in rounds if each.step == step] if step else outermost(rounds)
    if rounds and len({each.step for each in meant}) != 1:
        raise PlannerUnclearError(step, {each.step for each in (rounds if step else meant)})
    return meant
