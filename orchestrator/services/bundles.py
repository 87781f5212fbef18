"""Workflows taken out with all that they need, and put in elsewhere: all of it, or nothing."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import UUID

from django.db import transaction

from agents_app.core.custom import MAX_CAPABILITIES, are_capabilities
from agents_app.models import Agent
from agents_app.services.agents import change_agent, create_agent
from orchestrator.core.bundle import (
    Bundle,
    BundledWorkflow,
    Names,
    agents_named,
    bundle_of,
    capabilities_named,
    texts_in,
    workflows_named,
    workflows_of_agents,
)
from orchestrator.core.config import AgentConfig
from orchestrator.core.errors import BundleInvalidError
from orchestrator.core.parsing import spec_from_mapping, spec_to_mapping
from orchestrator.core.plan import Plan, plan_from_json
from orchestrator.core.problems import Problem, limited, pointer
from orchestrator.core.validation import Catalog, examine
from orchestrator.core.values import SLUG_PATTERN
from orchestrator.models import Workflow, WorkflowVersion
from orchestrator.services.drafts import draft_spec, save_draft
from orchestrator.services.workflows import (
    AGENT_FIELDS,
    agent_content,
    compiled,
    publish,
    tenant_catalog,
    version_of,
)
from tenants.models import Project

OnConflict = Literal["refuse", "rename", "replace"]
ON_CONFLICT: Sequence[OnConflict] = ("refuse", "rename", "replace")
_ABOUT = ("name", "description", "capabilities")
_MAX_SLUG = 63
_EMPTY: Mapping[str, Any] = {"tools": [], "parameters": {}, "output_schema": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The workflow, its version if it was published, and what the others are called here."""

    workflow: Workflow
    version: WorkflowVersion | None
    agents: Mapping[str, str]
    workflows: Mapping[str, str]


def export_bundle(workflow: Workflow, version: WorkflowVersion | None = None) -> dict[str, Any]:
    """The draft, or a version, with the saved agents and the versions that it names.

    Agents are as they are saved now. Raises BundleInvalidError where one is there no more.
    """
    collected = _Collected(workflow.project)
    if version is None:
        collected.add_draft(draft_spec(workflow))
    else:
        collected.add_version(version)
    return collected.bundle().as_mapping()


class _Collected:
    """What a workflow needs, each version behind those that it calls."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._saved = {agent.slug: agent for agent in Agent.objects.all()}
        self._agents: dict[str, dict[str, Any]] = {}
        self._workflows: list[BundledWorkflow] = []
        self._problems: list[Problem] = []
        self._seen: set[UUID] = set()

    def add_draft(self, spec: dict[str, Any]) -> None:
        self._add_called(self._found([*workflows_named(spec), *self._startable(spec)]))
        self._workflows.append(BundledWorkflow(spec=spec))

    def add_version(self, version: WorkflowVersion) -> None:
        if version.id in self._seen:
            return
        self._seen.add(version.id)
        spec = version.spec
        pinned = [UUID(each) for each in _called(plan_from_json(version.plan))]
        started = self._found([*workflows_of_agents(spec), *self._startable(spec)])
        self._add_called([*pinned, *started])
        self._workflows.append(BundledWorkflow(spec=spec, version=version.number))

    def bundle(self) -> Bundle:
        if self._problems:
            raise BundleInvalidError(self._problems)
        return Bundle(workflows=self._workflows, agents=dict(sorted(self._agents.items())))

    def _add_called(self, ids: Iterable[UUID]) -> None:
        """Of the versions of one workflow the latest comes last: it is to be the current one."""
        found = WorkflowVersion.objects.filter(id__in={*ids}).select_related("workflow__project")
        for called in found.order_by("number"):
            self.add_version(called)

    def _found(self, references: Iterable[str]) -> list[UUID]:
        ids = []
        for reference in dict.fromkeys(references):
            name, _, number = reference.partition("@")
            found = version_of(self._project, name, int(number) if number else None)
            if found is None:
                message = f"There is no published workflow `{reference}` in this project"
                self._problems.append(Problem("/steps", "unknown_workflow", message))
            else:
                ids.append(found.id)
        return ids

    def _startable(self, spec: Mapping[str, Any]) -> list[str]:
        """The workflows that the saved agents of a spec may start; takes the agents in."""
        able = capabilities_named(spec)
        ahead, started = agents_named(spec), list[str]()
        ahead += [slug for slug, agent in self._saved.items() if able & {*agent.capabilities}]
        while ahead:
            slug = ahead.pop()
            if slug in self._agents:
                continue
            if slug not in self._saved:
                message = f"There is no agent `{slug}` any more"
                self._problems.append(Problem("/steps", "unknown_agent", message))
                continue
            agent = self._agents[slug] = _described(self._saved[slug])
            ahead += texts_in(agent, "delegates")
            started += texts_in(agent, "workflows")
        return started


def _called(plan: Plan) -> Iterator[str]:
    for step in plan.steps:
        if step.call is not None:
            yield step.call.version_id
        if step.loop is not None:
            yield from _called(step.loop.body)


def _described(agent: Agent) -> dict[str, Any]:
    about = {name: getattr(agent, name) for name in _ABOUT if getattr(agent, name)}
    return {**about, **agent_content(agent)}


def install_bundle(
    data: Mapping[str, Any],
    *,
    project: Project,
    on_conflict: OnConflict = "refuse",
    and_publish: bool = False,
) -> Installed:
    """Put a bundle into a project: its agents, the versions that are called, and the workflow.

    What is there already and the same is used as it is. Of what is there and differs `on_conflict`
    decides: nothing is installed, what comes gets another name, or it takes the old one's place,
    whose published versions stay. Raises BundleInvalidError with every problem, and has changed
    nothing then.
    """
    bundle = bundle_of(data)
    here = _Here.of(project)
    taken = here.taken_by(bundle)
    problems = list(taken.problems()) if on_conflict == "refuse" else []
    agents = taken.other_agents() if on_conflict == "rename" else {}
    workflows = taken.other_workflows() if on_conflict == "rename" else {}
    renamed = bundle.renamed(Names(agents=agents, workflows=workflows))
    problems += _problems(renamed, tenant_catalog())
    if problems:
        raise BundleInvalidError(limited(problems))
    with transaction.atomic():
        _save_agents(renamed, here)
        installed, version = _save_workflows(renamed, project, and_publish=and_publish)
    return Installed(
        workflow=installed,
        version=version,
        agents={slug: agents.get(slug, slug) for slug in bundle.agents},
        workflows={w.name: workflows.get(w.name, w.name) for w in bundle.workflows},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Here:
    """The saved agents of the tenant, and the drafts of the project."""

    agents: Mapping[str, Agent]
    workflows: Mapping[str, Workflow]

    @classmethod
    def of(cls, project: Project) -> "_Here":
        return cls(
            agents={agent.slug: agent for agent in Agent.objects.all()},
            workflows={each.name: each for each in Workflow.objects.filter(project=project)},
        )

    def taken_by(self, bundle: Bundle) -> "_Taken":
        agents = [
            slug
            for slug, agent in bundle.agents.items()
            if slug in self.agents and _described(self.agents[slug]) != agent
        ]
        drafts = {each.name: each.spec for each in bundle.workflows}  # of several, the last
        workflows = [
            name
            for name, spec in drafts.items()
            if name in self.workflows and draft_spec(self.workflows[name]) != spec
        ]
        used = {*self.agents, *self.workflows, *bundle.agents, *drafts}
        return _Taken(agents=agents, workflows=workflows, used=used)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """Names of a bundle that something else has here; `used` are all that are no longer free."""

    agents: Sequence[str]
    workflows: Sequence[str]
    used: set[str]

    def problems(self) -> Iterator[Problem]:
        for slug in self.agents:
            message = f"There is another agent `{slug}`; rename or replace"
            yield Problem(pointer("agents", slug), "already_exists", message)
        for name in self.workflows:
            message = f"There is another workflow `{name}` in this project; rename or replace"
            yield Problem("/workflows", "already_exists", message)

    def other_agents(self) -> dict[str, str]:
        return {slug: self._free(slug) for slug in self.agents}

    def other_workflows(self) -> dict[str, str]:
        return {name: self._free(name) for name in self.workflows}

    def _free(self, name: str) -> str:
        number = 2
        while (other := f"{name[: _MAX_SLUG - len(str(number)) - 1]}-{number}") in self.used:
            number += 1
        self.used.add(other)
        return other


def _problems(bundle: Bundle, catalog: Catalog) -> Iterator[Problem]:
    """Everything that keeps the parts from working here, each seen with the others in place."""
    contents = {
        slug: {**_content(agent), "capabilities": agent.get("capabilities")}
        for slug, agent in bundle.agents.items()
    }
    known = replace(catalog, agents={**catalog.agents, **contents})
    versions: dict[str, frozenset[int]] = {}
    for index, each in enumerate(bundle.workflows):
        at = pointer("workflows", index, "spec")
        report = examine(each.spec, replace(known, workflows=versions))
        for problem in [*report.problems, *report.unsupported]:
            yield replace(problem, loc=at + problem.loc)
        if each.version is not None:
            before = versions.get(each.name, frozenset())
            versions[each.name] = before | {each.version}
    for slug, agent in bundle.agents.items():
        yield from _agent_problems(slug, agent, replace(known, workflows=versions))


def _agent_problems(slug: str, about: AgentConfig, catalog: Catalog) -> Iterator[Problem]:
    """Those of the agent itself, found as if a step described it in place."""
    content = _content(about)
    alone = {"name": "bundle", "steps": {"a": {"agent": content, "prompt": "x"}}}
    report = examine(alone, catalog)
    for problem in [*report.problems, *report.unsupported]:
        if problem.loc.startswith("/steps/a/agent"):
            rest = problem.loc.removeprefix("/steps/a/agent")
            yield replace(problem, loc=pointer("agents", slug) + rest)
    if not are_capabilities(about.get("capabilities", [])):
        message = f"Write a list of at most {MAX_CAPABILITIES} names such as translation"
        yield Problem(pointer("agents", slug, "capabilities"), "invalid", message)
    if not re.fullmatch(SLUG_PATTERN, slug):
        message = "A slug has lower-case letters, digits, hyphens and underscores, at most 63"
        yield Problem(pointer("agents", slug), "invalid_name", message)


def _content(agent: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in agent.items() if name not in _ABOUT}


def _save_agents(bundle: Bundle, here: _Here) -> None:
    for slug, agent in bundle.agents.items():
        existing = here.agents.get(slug)
        if existing is None:
            create_agent(slug=slug, **_fields(slug, agent))
        elif _described(existing) != agent:
            change_agent(existing, **_fields(slug, agent))


def _fields(slug: str, agent: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a saved agent; what the document leaves out is empty."""
    columns = {name: agent.get(name, _EMPTY.get(name, "")) for name in AGENT_FIELDS}
    content = _content(agent)
    return {
        "name": str(agent.get("name") or slug),
        "description": str(agent.get("description") or ""),
        "capabilities": agent.get("capabilities") or [],
        **columns,
        "settings": {name: value for name, value in content.items() if name not in AGENT_FIELDS},
    }


def _save_workflows(
    bundle: Bundle, project: Project, *, and_publish: bool
) -> tuple[Workflow, WorkflowVersion | None]:
    """In their order, so that each finds those that it calls, under the numbers they get here."""
    numbers: dict[str, str] = {}
    for each in bundle.workflows[:-1]:
        version = _published(each, project, numbers)
        numbers[f"{each.name}@{each.version}"] = f"{each.name}@{version.number}"
    _save_agents(bundle.renamed(Names(references=numbers)), _Here.of(project))
    workflow = _saved(bundle.main, project, numbers)
    return workflow, publish(workflow) if and_publish else None


def _published(
    each: BundledWorkflow, project: Project, numbers: Mapping[str, str]
) -> WorkflowVersion:
    """A version like this one, if the project has it, so that none comes twice; else a new one."""
    spec = spec_from_mapping(Names(references=numbers).in_spec(each.spec))
    _, plan = compiled(spec, project)
    alike = WorkflowVersion.objects.filter(workflow__project=project, workflow__name=each.name)
    for version in alike:
        if (version.spec, version.plan) == (spec_to_mapping(spec), plan):
            return version
    return publish(_saved(each, project, numbers))


def _saved(each: BundledWorkflow, project: Project, numbers: Mapping[str, str]) -> Workflow:
    existing = Workflow.objects.filter(project=project, name=each.name).first()
    spec = Names(references=numbers).in_spec(each.spec)
    return save_draft(project=project, spec=spec, workflow=existing)
