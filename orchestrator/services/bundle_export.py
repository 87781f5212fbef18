"""Workflows taken out with all that they need."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from agents_app.models import Agent
from orchestrator.core.bundle import (
    Bundle,
    BundledWorkflow,
    Names,
    agents_named,
    capabilities_named,
    pinned,
    texts_in,
    workflows_named,
    workflows_of_agents,
)
from orchestrator.core.errors import BundleInvalidError
from orchestrator.core.plan import Plan, WorkflowCall, plan_from_json
from orchestrator.core.problems import Problem
from orchestrator.models import Workflow, WorkflowVersion
from orchestrator.services.drafts import draft_spec
from orchestrator.services.workflows import agent_content, version_of
from tenants.models import Project

ABOUT = ("name", "description", "capabilities")


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


def described(agent: Agent) -> dict[str, Any]:
    about = {name: getattr(agent, name) for name in ABOUT if getattr(agent, name)}
    return {**about, **agent_content(agent)}


def calls_by_place(plan: Plan) -> dict[str, str]:
    """The version that each step calls, as a reference with a number."""
    return {place: f"{call.workflow}@{call.version}" for place, call in _calls(plan)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """`calls` and `current` are what references without a number mean, see `pinned`."""

    spec: dict[str, Any]
    version: int | None
    calls: Mapping[str, str]
    current: Mapping[str, str]

    def written(self, latest: Mapping[str, str]) -> BundledWorkflow:
        calls, current = _others(self.calls, latest), _others(self.current, latest)
        return BundledWorkflow(
            spec=pinned(self.spec, calls=calls, current=current), version=self.version
        )


class _Collected:
    """What a workflow needs, each version behind those that it calls."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._saved = {agent.slug: agent for agent in Agent.objects.all()}
        self._agents: dict[str, dict[str, Any]] = {}
        self._started: dict[str, str] = {}
        self._parts: list[_Part] = []
        self._problems: list[Problem] = []
        self._seen: set[UUID] = set()

    def add_draft(self, spec: dict[str, Any]) -> None:
        current = self._current(workflows_named(spec))
        self._start(spec)
        self._parts.append(_Part(spec=spec, version=None, calls={}, current=current))

    def add_version(self, version: WorkflowVersion) -> None:
        if version.id in self._seen:
            return
        self._seen.add(version.id)
        spec, plan = version.spec, plan_from_json(version.plan)
        self._add([UUID(call.version_id) for _, call in _calls(plan)])
        current = self._current(workflows_of_agents(spec))
        self._start(spec)
        calls = calls_by_place(plan)
        self._parts.append(_Part(spec=spec, version=version.number, calls=calls, current=current))

    def bundle(self) -> Bundle:
        """A reference without a number means the latest before it, or has got its number."""
        if self._problems:
            raise BundleInvalidError(self._problems)
        latest: dict[str, str] = {}
        workflows: list[BundledWorkflow] = []
        for part in self._parts:
            written = part.written(latest)
            workflows.append(written)
            latest[written.name] = f"{written.name}@{written.version}"
        names = Names(references=_others(self._started, latest))
        agents = {slug: names.in_agent(agent) for slug, agent in sorted(self._agents.items())}
        return Bundle(workflows=workflows, agents=agents)

    def _add(self, ids: Iterable[UUID]) -> None:
        found = WorkflowVersion.objects.filter(id__in={*ids}).select_related("workflow__project")
        for called in found.order_by("number"):
            self.add_version(called)

    def _current(self, references: Iterable[str]) -> dict[str, str]:
        """Takes in what is meant today; the numbers of what is named without one."""
        found: dict[str, WorkflowVersion] = {}
        for reference in dict.fromkeys(references):
            name, _, number = reference.partition("@")
            version = version_of(self._project, name, int(number) if number else None)
            if version is None:
                message = f"There is no published workflow `{reference}` in this project"
                self._problems.append(Problem("/steps", "unknown_workflow", message))
            else:
                found[reference] = version
        self._add(version.id for version in found.values())
        return {name: f"{name}@{found[name].number}" for name in found if "@" not in name}

    def _start(self, spec: Mapping[str, Any]) -> None:
        """Takes in the saved agents of a spec, and the workflows that they may start."""
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
            agent = self._agents[slug] = described(self._saved[slug])
            ahead += texts_in(agent, "delegates")
            started += texts_in(agent, "workflows")
        self._started |= self._current(started)


def _others(meant: Mapping[str, str], latest: Mapping[str, str]) -> dict[str, str]:
    """Those that would be taken for another version if they had no number."""
    return {
        key: exact for key, exact in meant.items() if latest.get(exact.partition("@")[0]) != exact
    }


def _calls(plan: Plan) -> Iterator[tuple[str, WorkflowCall]]:
    for step in plan.steps:
        if step.call is not None:
            yield step.name, step.call
        if step.loop is not None:
            yield from ((f"{step.name}.{place}", call) for place, call in _calls(step.loop.body))
