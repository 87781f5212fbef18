"""Checking, publishing and deleting workflows. Drafts are kept in `drafts`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from django.conf import settings

from agents_app.agent_types import custom_agent
from agents_app.core.tools import Toolbox
from agents_app.models import Agent
from agents_app.plugins.registry import plugins
from agents_app.selectors.agent_grants import withheld_agents
from agents_app.selectors.toolboxes import toolbox_of
from orchestrator.core.choosing import with_candidates
from orchestrator.core.config import AgentConfig
from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.core.marking import with_marks
from orchestrator.core.parsing import spec_to_mapping
from orchestrator.core.plan import (
    Plan,
    PlannedStep,
    WorkflowCall,
    compile_plan,
    plan_to_json,
    workflow_references,
)
from orchestrator.core.problems import Problem
from orchestrator.core.spec import WorkflowSpec
from orchestrator.core.validation import Catalog, Report, examine
from orchestrator.execution.prices import knows_price
from orchestrator.execution.providers import (
    batching_providers,
    models_meant,
    provider_settings,
    unusable,
    with_own_models,
)
from orchestrator.models import Workflow, WorkflowVersion
from orchestrator.services.drafts import draft_spec, save_draft
from tenants.models import Project, Tenant
from tenants.scope import current_tenant_id
from tenants.selectors.credentials import serving_credentials

__all__ = ["draft_spec", "publish", "publish_spec", "save_draft", "validate_spec"]

AGENT_FIELDS = (
    "type",
    "role",
    "provider",
    "model",
    "system",
    "prompt",
    "tools",
    "parameters",
    "output_schema",
)


def validate_spec(spec: Mapping[str, Any]) -> list[Problem]:
    """Everything that stands in the way of publishing, each with its place. Empty: publishable."""
    report = _examine(spec)
    return [*report.problems, *report.unsupported]


def publish(workflow: Workflow) -> WorkflowVersion:
    """Freeze the draft as the next version and make it the current one.

    Saved agents are copied in, so that later edits do not reach it. A draft equal to the
    current version gives that one. Raises WorkflowInvalidError with every problem.
    """
    # One publisher at a time: numbers have no gaps and no doubles.
    Workflow.objects.select_for_update().get(id=workflow.id)
    written = draft_spec(workflow)
    report = _examine(written)
    if report.spec is None or not report.can_publish:
        raise WorkflowInvalidError([*report.problems, *report.unsupported])
    _, plan = compiled(report.spec, workflow.project)
    latest = workflow.versions.first()
    if latest and (latest.spec, latest.plan) == (spec_to_mapping(report.spec), plan):
        return _make_current(workflow, latest)
    version = WorkflowVersion.objects.create(
        workflow=workflow,
        number=latest.number + 1 if latest else 1,
        spec=spec_to_mapping(report.spec),
        plan=plan,
    )
    return _make_current(workflow, version)


def publish_spec(*, project: Project, spec: Mapping[str, Any]) -> WorkflowVersion:
    """Save a spec as the project's workflow of that name, and publish it."""
    existing = Workflow.objects.filter(project=project, name=spec.get("name")).first()
    return publish(save_draft(project=project, spec=spec, workflow=existing))


def _make_current(workflow: Workflow, version: WorkflowVersion) -> WorkflowVersion:
    workflow.current_version = version
    workflow.save(update_fields=["current_version", "updated_at"])
    return version


def compiled(
    spec: WorkflowSpec, project: Project, *, agents: Mapping[str, AgentConfig] | None = None
) -> tuple[Plan, dict[str, Any]]:
    """The plan of a sound spec, and how it is stored. Saved agents are copied into it.

    `agents` are as if they were saved. Raises WorkflowInvalidError for workflows that are not the
    project's.
    """
    saved = {**_saved_agents(), **(agents or {})}
    plan = compile_plan(spec, saved, _pinned_workflows(spec, project))
    if plan.chooses:
        catalog = tenant_catalog()
        known = replace(catalog, agents={**catalog.agents, **(agents or {})})
        plan = with_candidates(plan, known)
    settled = with_marks(plan).with_steps(settling())
    return settled, plan_to_json(settled)


def settling() -> Callable[[PlannedStep], PlannedStep]:
    """What fills in of a step all that its author left to its agent, its tenant or its tools."""
    with_models = with_own_models(serving_credentials())
    weighed = _weighed(toolbox_of(current_tenant_id()))
    return lambda step: weighed(with_models(_as_its_class_says(step)))


def _weighed(tools: Toolbox) -> Callable[[PlannedStep], PlannedStep]:
    """Says of each step whether it has a tool that takes a processor for itself."""
    heavy = {tool.name for tool in tools.all() if tool.is_heavy}

    def weighed(step: PlannedStep) -> PlannedStep:
        if step.choice is not None:
            return replace(step, is_heavy=any(each.is_heavy for each in step.choice.candidates))
        given = step.config.get("tools")
        named = {step.config.get("tool"), *(given if isinstance(given, list) else ())}
        return replace(step, is_heavy=not heavy.isdisjoint(named))

    return weighed


def _as_its_class_says(step: PlannedStep) -> PlannedStep:
    """Of a custom agent: whether it calls a model, and what it is good for."""
    if step.config.get("type") != "custom":
        return step
    agent = custom_agent(str(step.config.get("implementation")))
    if isinstance(agent, str):
        return step
    named = step.config.get("capabilities")
    known = [*(named if isinstance(named, list) else []), *sorted({*agent.capabilities})]
    config = {**step.config, "capabilities": list(dict.fromkeys(known))} if known else step.config
    if agent.calls_model:
        return replace(step, config=config)
    return replace(step, config=config, uses_model=False, fallback=())


def _pinned_workflows(spec: WorkflowSpec, project: Project) -> dict[str, WorkflowCall]:
    """The version behind each reference to a workflow; without a number, the current one."""
    pinned: dict[str, WorkflowCall] = {}
    for at, reference in workflow_references(spec):
        name, _, number = reference.partition("@")
        found = version_of(project, name, int(number) if number else None)
        if found is None:
            message = f"There is no published workflow `{reference}` in this project"
            raise WorkflowInvalidError([Problem(at, "unknown_workflow", message)])
        pinned[reference] = WorkflowCall(
            workflow=name, version=found.number, version_id=str(found.id)
        )
    return pinned


def _examine(spec: Mapping[str, Any]) -> Report:
    return examine(spec, tenant_catalog())


def tenant_catalog() -> Catalog:
    """What the workflows of the open tenant may refer to."""
    tenant = Tenant.objects.get(id=current_tenant_id())
    uses_environment, own = tenant.uses_environment_credentials, serving_credentials()
    tools = toolbox_of(tenant.id).all()
    found = plugins()
    return Catalog(
        agents=_saved_agents(),
        tools={tool.name: tool.parameters for tool in tools},
        custom_agents={name: each.capabilities for name, each in found.agents.items()},
        broken_agents={each.name: str(each) for each in found.broken if each.may_be("agent")},
        withheld_agents=withheld_agents(),
        withheld_tools={tool.name: tool.withheld for tool in tools if tool.withheld},
        providers={
            name: unusable(name, own=own, uses_environment=uses_environment) is None
            for name in provider_settings()
        },
        knows_model=lambda provider, model: all(
            knows_price(tenant.id, provider, each) for each in models_meant(provider, model, own)
        ),
        workflows=_published_workflows(),
        batching=batching_providers(own),
        default_provider=settings.LLM_PROVIDER,
    )


def version_of(project: Project, name: str, number: int | None) -> WorkflowVersion | None:
    workflow = Workflow.objects.filter(project=project, name=name).first()
    if workflow is None or number is None:
        return workflow.current_version if workflow else None
    return workflow.versions.filter(number=number).first()


def _published_workflows() -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    versions = WorkflowVersion.objects.order_by()
    for name, number in versions.values_list("workflow__name", "number"):
        found.setdefault(name, set()).add(number)
    return {name: frozenset(numbers) for name, numbers in found.items()}


def _saved_agents() -> dict[str, AgentConfig]:
    return {agent.slug: agent_content(agent) for agent in Agent.objects.all()}


def agent_content(agent: Agent) -> AgentConfig:
    """A saved agent as an author would describe it in place; empty fields are left out."""
    fields = {name: getattr(agent, name) for name in (*AGENT_FIELDS, "capabilities")}
    return {**{name: value for name, value in fields.items() if value}, **agent.settings}
