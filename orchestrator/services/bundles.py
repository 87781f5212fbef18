"""Workflows put in with all that they need: all of it, or nothing."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from django.db import IntegrityError, transaction

from agents_app.core.custom import MAX_CAPABILITIES, are_capabilities
from agents_app.models import Agent
from agents_app.services.agents import change_agent, create_agent
from orchestrator.core.bundle import (
    Bundle,
    BundledWorkflow,
    Names,
    agents_named,
    bundle_of,
    pinned,
    texts_in,
    workflows_named,
)
from orchestrator.core.config import AgentConfig
from orchestrator.core.errors import BundleInvalidError
from orchestrator.core.parsing import spec_from_mapping, spec_to_mapping
from orchestrator.core.problems import Problem, limited, pointer
from orchestrator.core.validation import Catalog, examine
from orchestrator.core.values import SLUG_PATTERN
from orchestrator.models import Workflow, WorkflowVersion
from orchestrator.services.bundle_export import ABOUT, calls_by_place, described
from orchestrator.services.drafts import draft_spec, save_draft
from orchestrator.services.workflows import (
    AGENT_FIELDS,
    compiled,
    publish,
    tenant_catalog,
)
from tenants.models import Project
from tenants.services.errors import AlreadyExistsError

OnConflict = Literal["refuse", "rename", "replace"]
ON_CONFLICT: Sequence[OnConflict] = ("refuse", "rename", "replace")
_MAX_SLUG = 63
_EMPTY: Mapping[str, Any] = {"tools": [], "parameters": {}, "output_schema": None}
# The number of a version that is not there yet.
_NEW = 0

# By the references of a bundle, the version that is so here; None, if there is none yet.
Versions = Mapping[str, WorkflowVersion | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The workflow, its version if it was published, and what the others are called here."""

    workflow: Workflow
    version: WorkflowVersion | None
    agents: Mapping[str, str]
    workflows: Mapping[str, str]


def install_bundle(
    data: Mapping[str, Any],
    *,
    project: Project,
    on_conflict: OnConflict = "refuse",
    and_publish: bool = False,
) -> Installed:
    """Put a bundle into a project: its agents, the versions that are called, and the workflow.

    What is there already and the same is used as it is, whatever number it has here. Of what is
    there and differs `on_conflict` decides: nothing is installed, what comes gets another name, or
    it takes the old one's place, whose published versions stay. A reference without a number means
    the latest before it in the bundle. Raises BundleInvalidError with every problem, and has
    changed nothing then.
    """
    bundle = bundle_of(data)
    here = _Here.of(project)
    problems = list(_problems(bundle, tenant_catalog()))
    if not problems:
        bundle = _as_kept(bundle)
    taken = here.taken_by(bundle, {} if problems else here.versions(bundle))
    if on_conflict == "refuse":
        problems = [*taken.problems(), *problems]
    if problems:
        raise BundleInvalidError(limited(problems))
    names = here.other_names(bundle, taken) if on_conflict == "rename" else Names()
    try:
        with transaction.atomic():
            installed, version = here.install(bundle.renamed(names), and_publish=and_publish)
    except (AlreadyExistsError, IntegrityError) as error:
        told = "Somebody has taken a name of it at this very moment; try again"
        raise BundleInvalidError([Problem("/workflows", "already_exists", told)]) from error
    return Installed(
        workflow=installed,
        version=version,
        agents={slug: names.agent(slug) for slug in bundle.agents},
        workflows={each.name: names.workflow(each.name) for each in bundle.workflows},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Here:
    """The saved agents of the tenant, and the drafts of the project."""

    project: Project
    agents: Mapping[str, Agent]
    workflows: Mapping[str, Workflow]

    @classmethod
    def of(cls, project: Project) -> "_Here":
        return cls(
            project=project,
            agents={agent.slug: agent for agent in Agent.objects.all()},
            workflows={each.name: each for each in Workflow.objects.filter(project=project)},
        )

    def versions(self, bundle: Bundle) -> Versions:
        found: dict[str, WorkflowVersion | None] = {}
        for each in bundle.workflows[:-1]:
            found |= _known_as(each, self._alike(bundle, each, found))
        return found

    def _alike(
        self, bundle: Bundle, each: BundledWorkflow, found: Versions
    ) -> WorkflowVersion | None:
        """The project's version that is the same and calls the same, with the bundle's agents."""
        if any(found.get(reference) is None for reference in workflows_named(each.spec)):
            return None
        names = _names(found)
        spec = spec_from_mapping(names.in_spec(each.spec))
        agents = {slug: _as_saved(names.in_agent(agent)) for slug, agent in bundle.agents.items()}
        plan, written = compiled(spec, self.project, agents=agents)
        calls = calls_by_place(plan)
        exact = pinned(spec_to_mapping(spec), calls=calls)
        versions = WorkflowVersion.objects.filter(
            workflow__project=self.project, workflow__name=each.name
        ).select_related("workflow")
        alike = (
            version
            for version in versions
            if version.plan == written and pinned(version.spec, calls=calls) == exact
        )
        return next(alike, None)

    def taken_by(self, bundle: Bundle, found: Versions) -> "_Taken":
        names = _names(found)
        agents = {
            slug
            for slug, agent in bundle.agents.items()
            if slug in self.agents and described(self.agents[slug]) != names.in_agent(agent)
        }
        # Of several versions, the last leaves its draft behind.
        drafts = {each.name: each.spec for each in bundle.workflows if not found.get(_key(each))}
        workflows = {
            name
            for name, spec in drafts.items()
            if name in self.workflows and draft_spec(self.workflows[name]) != names.in_spec(spec)
        }
        return _Taken(agents=agents, workflows=workflows)

    def other_names(self, bundle: Bundle, taken: "_Taken") -> Names:
        """For what is taken; and for what is here as it comes, but would name others then."""
        agents, workflows = {*taken.agents}, {*taken.workflows}
        by_agents = {slug: _named_by_agent(agent) for slug, agent in bundle.agents.items()}
        by_workflows = [(each.name, _named_by(each.spec)) for each in bundle.workflows]
        before = -1
        while before < (before := len(agents) + len(workflows)):
            agents |= self.agents.keys() & _naming(by_agents.items(), agents, workflows)
            workflows |= self.workflows.keys() & _naming(by_workflows, agents, workflows)
        used = {*self.agents, *self.workflows, *by_agents, *(name for name, _ in by_workflows)}
        return Names(
            agents={slug: _free(slug, used) for slug in sorted(agents)},
            workflows={name: _free(name, used) for name in sorted(workflows)},
        )

    def install(
        self, bundle: Bundle, *, and_publish: bool
    ) -> tuple[Workflow, WorkflowVersion | None]:
        """In their order, so that each finds those that it calls, under the numbers they get."""
        found = self.versions(bundle)
        known = {name: found[name] for name in found if found[name] is not None}
        agents, drafts = dict(self.agents), dict(self.workflows)
        _save_agents(bundle, known, agents)
        for each in bundle.workflows[:-1]:
            version = found[_key(each)]
            if version is None:
                _save_agents(bundle, known, agents)
                version = publish(self._saved(each, known, drafts))
            known |= _known_as(each, version)
        _save_agents(bundle, known, agents)
        workflow = self._saved(bundle.main, known, drafts)
        return workflow, publish(workflow) if and_publish else None

    def _saved(
        self, each: BundledWorkflow, known: Versions, drafts: dict[str, Workflow]
    ) -> Workflow:
        """Over none but those that were looked at: `drafts` has these, and this one then."""
        existing, spec = drafts.get(each.name), _names(known).in_spec(each.spec)
        if existing is None or draft_spec(existing) != spec:
            existing = save_draft(project=self.project, spec=spec, workflow=existing)
        drafts[each.name] = existing
        return existing


def _key(each: BundledWorkflow) -> str:
    return f"{each.name}@{each.version}"


def _known_as(
    each: BundledWorkflow, version: WorkflowVersion | None
) -> dict[str, WorkflowVersion | None]:
    return {_key(each): version, each.name: version}


def _names(found: Versions) -> Names:
    """What they are called here: without a number only where that means the current version."""
    return Names(references={name: _reference(name, version) for name, version in found.items()})


def _reference(reference: str, version: WorkflowVersion | None) -> str:
    name, _, number = reference.partition("@")
    if version is None:
        return f"{name}@{_NEW}" if number else name
    is_current = version.workflow.current_version_id == version.id
    return name if is_current and not number else f"{name}@{version.number}"


def _as_kept(bundle: Bundle) -> Bundle:
    """As it would be exported from here, so that what is the same is equal."""
    return Bundle(
        workflows=[
            replace(each, spec=spec_to_mapping(spec_from_mapping(each.spec)))
            for each in bundle.workflows
        ],
        agents={
            slug: described(Agent(slug=slug, **_fields(slug, agent)))
            for slug, agent in bundle.agents.items()
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """Names of a bundle that something else has here."""

    agents: Collection[str]
    workflows: Collection[str]

    def problems(self) -> Iterator[Problem]:
        for slug in sorted(self.agents):
            message = f"There is another agent `{slug}`; rename or replace"
            yield Problem(pointer("agents", slug), "already_exists", message)
        for name in sorted(self.workflows):
            message = f"There is another workflow `{name}` in this project; rename or replace"
            yield Problem("/workflows", "already_exists", message)


def _naming(
    parts: Iterable[tuple[str, tuple[list[str], list[str]]]], agents: set[str], workflows: set[str]
) -> set[str]:
    """The parts that name one of these."""
    return {
        name
        for name, (asked, called) in parts
        if not (agents.isdisjoint(asked) and workflows.isdisjoint(called))
    }


def _named_by(spec: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The agents and the workflows, by their names alone."""
    return agents_named(spec), _without_numbers(workflows_named(spec))


def _named_by_agent(agent: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    return texts_in(agent, "delegates"), _without_numbers(texts_in(agent, "workflows"))


def _without_numbers(references: Sequence[str]) -> list[str]:
    return [reference.partition("@")[0] for reference in references]


def _free(name: str, used: set[str]) -> str:
    number = 2
    while (other := f"{name[: _MAX_SLUG - len(str(number)) - 1]}-{number}") in used:
        number += 1
    used.add(other)
    return other


def _problems(bundle: Bundle, catalog: Catalog) -> Iterator[Problem]:
    """Everything that keeps the parts from working here, each seen with the others in place."""
    contents = {slug: _as_saved(agent) for slug, agent in bundle.agents.items()}
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
    return {name: value for name, value in agent.items() if name not in ABOUT}


def _as_saved(agent: Mapping[str, Any]) -> dict[str, Any]:
    """The content as a saved agent brings it to workflows."""
    able = agent.get("capabilities")
    return {**_content(agent), **({"capabilities": able} if able else {})}


def _save_agents(bundle: Bundle, known: Versions, agents: dict[str, Agent]) -> None:
    """Those that differ from what is here; `agents` has these, and all of them then."""
    names = _names(known)
    for slug, agent in bundle.agents.items():
        wanted, existing = names.in_agent(agent), agents.get(slug)
        if existing is None:
            agents[slug] = create_agent(slug=slug, **_fields(slug, wanted))
        elif described(existing) != wanted:
            change_agent(existing, **_fields(slug, wanted))


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
