"""The workflow behind a run that begins with an objective, and the workflow that its plans make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from agents_app.core.model import JsonSchema
from agents_app.core.planning import Decision, Means, steps_of
from orchestrator.core.jsonvalue import Json

NAME: Final = "objective"
MODULE: Final = "objectives"
STEP: Final = "work"
MAX_OBJECTIVE: Final = 10_000
TIMEOUT: Final = "5m"
_DESCRIPTION: Final = (
    "Made by the platform for runs that begin with an objective. "
    "A run of it plans, hands out the tasks, and answers."
)
_TEXT: Final[Mapping[str, Json]] = {"type": "string", "minLength": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """Who and what there is for an objective; without a `planner`, patterns plan.

    `planner` and `models` (by role) name a provider and a model each.
    """

    tools: Sequence[str]
    agents: Sequence[str]
    planner: Mapping[str, str] | None
    models: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    system: str = ""


def objective_spec(team: Team, *, approve: bool, approve_above_usd: str | None) -> dict[str, Json]:
    """A workflow file: its input is the objective, and the task as its planner is told it."""
    agent: dict[str, Json] = {
        "type": "planner" if team.planner else "pattern_planner",
        "role": "planner",
        "prompt": "${input.task}",
        "objective": "${input.objective}",
        "tools": [*team.tools],
        "report": True,
    }
    if team.planner:
        models: Json = {role: dict(choice) for role, choice in team.models.items()}
        agent |= {**team.planner, "delegates": [*team.agents], "role_models": models}
        agent |= {"system": team.system} if team.system else {}
    if approve:
        agent["approve"] = True
    if approve_above_usd is not None:
        agent["approve_above_usd"] = approve_above_usd
    return {
        "muster": 1,
        "name": NAME,
        "description": _DESCRIPTION,
        "module": MODULE,
        "strategy": "adaptive",
        "inputs": {
            "type": "object",
            "required": ["objective", "task"],
            "properties": {"objective": {**_TEXT, "maxLength": MAX_OBJECTIVE}, "task": {**_TEXT}},
        },
        "steps": {STEP: {"agent": agent, "timeout": TIMEOUT}},
        "output": {
            "objective": "${input.objective}",
            "answer": f"${{steps.{STEP}.output.answer}}",
            "tasks": f"${{steps.{STEP}.output.tasks}}",
        },
    }


def tool_line(name: str, description: str, parameters: JsonSchema) -> str:
    """A tool as a planner is told of it: what it takes, and what for."""
    properties = parameters.get("properties")
    taken = ", ".join(properties) if isinstance(properties, dict) else ""
    return f"- {name}({taken}): {description.splitlines()[0] if description else ''}"


def carried_out(
    rounds: Iterable[tuple[Decision, Mapping[str, str]]],
) -> Decision:
    """The tasks of all plans that have completed, each once, with the needs that are among them.

    A round has what each of its tasks came to, by name; of two of a name, the later counts.
    """
    done = {
        task.id: task
        for decision, statuses in rounds
        for task in decision.tasks
        if statuses.get(task.id) == "completed"
    }
    tasks = (
        task.model_copy(update={"needs": tuple(need for need in task.needs if need in done)})
        for task in done.values()
    )
    return Decision(tasks=tuple(tasks))


def saved_spec(name: str, plan: Decision, means: Means, *, objective: str) -> dict[str, Json]:
    """A workflow file that does again what a plan did; it gives what its last tasks give."""
    return {
        "muster": 1,
        "name": name,
        "description": f"Saved from the plan of a run: {objective}"[:2_000],
        "strategy": "adaptive",
        "steps": steps_of(plan, means),
    }
