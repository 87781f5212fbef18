"""Plans that a model makes of an objective, and the steps that carry them out."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from agents_app.core import observations, values
from agents_app.core.delegation import APPROVAL, literal, literal_text
from agents_app.core.errors import OutputInvalidError
from agents_app.core.model import JsonSchema
from agents_app.core.roles import detect

# A text that stands for the result of a task, or a field of it.
_REFERENCE: Final = re.compile(r"\$\{([a-z][a-z0-9_]*)((?:\.[A-Za-z0-9_]+)*)\}")

TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(_Part):
    """One thing to be done: by a tool with these arguments, by a workflow, or by an agent.

    `agent` is a saved one; without it, one is made that has `tools`. `needs` are tasks whose
    results it reads. In `arguments` and `input` a text that is `${name}`, or `${name.field}`,
    stands for the result of the task of this name, or a field of it.
    """

    id: TaskName
    title: Annotated[str, Field(min_length=1, max_length=200)]
    task: Annotated[str, Field(max_length=20_000)] = ""
    agent: str | None = None
    role: Literal["planner", "executor", "reviewer"] | None = None
    tools: tuple[str, ...] = ()
    tool: str | None = None
    arguments: dict[str, JsonValue] = {}
    workflow: str | None = None
    input: dict[str, JsonValue] = {}
    needs: tuple[str, ...] = ()
    priority: Annotated[int, Field(ge=0, le=10)] = 5

    @property
    def kind(self) -> str:
        """The type of the agent that is made for it, if one is."""
        return "react" if self.tools else "prompt"


class Decision(_Part):
    """What is to be done next; or, without tasks, the answer to the objective."""

    tasks: tuple[Task, ...] = ()
    answer: JsonValue = None

    @property
    def as_json(self) -> dict[str, JsonValue]:
        return self.model_dump(mode="json", exclude_defaults=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What tasks may be given to, and how an agent is set up that is made for one.

    `known` are the results of tasks that have been done, by name; they may be needed again.
    """

    tools: Collection[str] = ()
    agents: Collection[str] = ()
    workflows: Collection[str] = ()
    provider: str = ""
    model: str = ""
    timeout: str = "60s"
    max_cost_usd: str | None = None
    role_models: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    known: Mapping[str, JsonValue] = field(default_factory=dict)


def decision_schema(
    means: Means, *, answer: JsonSchema | None, may_plan: bool = True
) -> dict[str, Any]:
    """What a planner has to answer with; `answer` is the schema of the answer itself."""
    if not may_plan:
        return _object({"answer": dict(answer or {"type": "string"})}, required=["answer"])
    name = {"type": "string", "pattern": "^[a-z][a-z0-9_]*$", "maxLength": 40}
    task: dict[str, Any] = {
        "id": name,
        "title": {"type": "string", "maxLength": 200},
        "task": {"type": "string", "description": "All that whoever does it has to know."},
        "needs": {"type": "array", "items": name, "description": "Tasks whose results it reads."},
        "priority": {"type": "integer", "minimum": 0, "maximum": 10},
        "role": {"enum": ["planner", "executor", "reviewer"]},
    }
    if means.tools:
        tool = {"enum": sorted(means.tools)}
        task |= {
            "tools": {"type": "array", "items": tool, "description": "What its agent may call."},
            "tool": {**tool, "description": "Instead of an agent: one call of this tool."},
            "arguments": {"type": "object", "description": "Of that call."},
        }
    if means.agents:
        task["agent"] = {"enum": sorted(means.agents), "description": "Who does it."}
    if means.workflows:
        task["workflow"] = {"enum": sorted(means.workflows)}
        task["input"] = {"type": "object", "description": "Of that workflow."}
    items = _object(task, required=["id", "title", "task"])
    either = {"anyOf": [dict(answer or {"type": "string"}), {"type": "null"}]}
    tasks = {"type": "array", "items": items}
    return _object({"tasks": tasks, "answer": either}, required=["tasks"])


def _object(properties: Mapping[str, Any], *, required: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [*required],
        "additionalProperties": False,
        "properties": dict(properties),
    }


def decision_of(output: JsonValue, means: Means, *, most: int) -> Decision:
    """The decision in an answer, of at most so many tasks.

    Raises OutputInvalidError with everything that is wrong with it.
    """
    try:
        decision = Decision.model_validate(output)
    except ValidationError as error:
        places = (
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}"
            for each in error.errors(include_url=False)
        )
        raise OutputInvalidError("; ".join(places)) from error
    problems = list(_problems(decision, means))
    if len(decision.tasks) > most:
        problems.append(f"it has {len(decision.tasks)} tasks, and at most {most} may be")
    if problems:
        raise OutputInvalidError("; ".join(problems))
    return decision


def _problems(decision: Decision, means: Means) -> Iterator[str]:
    if not decision.tasks and decision.answer in (None, ""):
        yield "it has neither tasks nor an answer"
    names = [task.id for task in decision.tasks]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"two tasks are called {name}"
    for name in sorted({*names} & ({*means.known} | {APPROVAL})):
        yield f"{name} is taken; call the task something else"
    for task in decision.tasks:
        yield from _problems_of(task, means, names=names)
    try:
        TopologicalSorter({task.id: task.needs for task in decision.tasks}).prepare()
    except CycleError as error:
        yield f"tasks need each other in a circle: {' -> '.join(error.args[1])}"


def _problems_of(task: Task, means: Means, *, names: Sequence[str]) -> Iterator[str]:
    ways = [way for way in ("agent", "tool", "workflow") if getattr(task, way)]
    if len(ways) > 1:
        yield f"{task.id}: one of {', '.join(ways)}, not several"
    if not ways and not task.task.strip():
        yield f"{task.id}: it does not say what to do"
    for need in task.needs:
        if need not in names and need not in means.known:
            yield f"{task.id}: it needs {need}, which is no task"
    for need in _referred([task.arguments, task.input]):
        if need not in task.needs:
            yield f"{task.id}: it reads ${{{need}}} without needing it"
    yield from _strangers(task, means)


def _strangers(task: Task, means: Means) -> Iterator[str]:
    """Whom and what the task names that is not there."""
    asked = {"agent": [task.agent], "tool": [task.tool, *task.tools], "workflow": [task.workflow]}
    there = {"agent": means.agents, "tool": means.tools, "workflow": means.workflows}
    for way, wanted in asked.items():
        for name in filter(None, wanted):
            if name not in there[way]:
                yield f"{task.id}: there is no {way} {name}; there are {_listed(there[way])}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _referred(value: JsonValue) -> Iterator[str]:
    for text in values.texts_in(value):
        found = _REFERENCE.fullmatch(text)
        if found:
            yield found[1]


def steps_of(decision: Decision, means: Means) -> dict[str, JsonValue]:
    """The tasks as steps of a workflow file, by name."""
    return {task.id: _step_of(task, means) for task in decision.tasks}


def _step_of(task: Task, means: Means) -> JsonValue:
    needs = [need for need in task.needs if need not in means.known]
    step: dict[str, JsonValue] = {
        "description": task.title,
        "needs": [*needs],
        "priority": task.priority,
    }
    cap: dict[str, JsonValue] = {}
    if means.max_cost_usd is not None:
        cap["max_cost_usd"] = means.max_cost_usd
    if task.workflow:
        return {**step, **cap, "workflow": task.workflow, "input": _filled(task.input, means)}
    step["timeout"] = means.timeout
    if task.tool:
        agent: dict[str, JsonValue] = {"type": "tool", "tool": task.tool}
        return {**step, "agent": {**agent, "arguments": _filled(task.arguments, means)}}
    agent_of = task.agent or _agent_for(task, means)
    return {**step, **cap, "agent": agent_of, "prompt": _prompt(task, means)}


def _agent_for(task: Task, means: Means) -> dict[str, JsonValue]:
    agent: dict[str, JsonValue] = {"type": task.kind}
    if task.tools:
        agent["tools"] = [*task.tools]
    if task.role:
        agent["role"] = task.role
    usual = {"provider": means.provider, "model": means.model}
    role = task.role or str(detect(task.task or task.title))
    return {**agent, **(means.role_models.get(role) or usual)}


def _prompt(task: Task, means: Means) -> str:
    """What is to be done, and what it builds on: data, marked as such."""
    parts = [literal_text(task.task or task.title)]
    for need in task.needs:
        result = f"${{steps.{need}.output}}"
        if need in means.known:
            result = literal_text(observations.delimited(means.known[need]))
        parts.append(f'<result of="{need}">\n{result}\n</result>')
    prompt = "\n\n".join(parts)
    # What is a variable still is marked as the prompt is rendered, if a tool has brought it.
    is_data = not means.known.keys().isdisjoint(task.needs)
    return observations.with_data_rule(prompt) if is_data else prompt


def _filled(given: Mapping[str, JsonValue], means: Means) -> JsonValue:
    """Arguments as templates: texts as they are, but for those that stand for a result."""

    def fill(text: str) -> JsonValue:
        found = _REFERENCE.fullmatch(text)
        if not found:
            return literal_text(text)
        task, path = found.groups()
        if task in means.known:
            return literal(values.at_path(means.known[task], path))
        return f"${{steps.{task}.output{path}}}"

    return values.with_texts(dict(given), fill)
