"""What a statement of the engine asks its caller to publish once it has committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AgentHint:
    """Look at this agent run."""

    agent_run_id: UUID
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHints:
    """For one run: members of a chord, agent runs on their own, and whether to `advance` it."""

    tenant_id: UUID
    run_id: UUID
    chord: Sequence[AgentHint] = ()
    agents: Sequence[AgentHint] = ()
    advance: bool = False


def hints_of(tenant_id: UUID, rows: Iterable[Row]) -> list[RunHints]:
    """The rows of type `muster_hint`, gathered by run."""
    by_run: dict[UUID, list[Row]] = {}
    for row in rows:
        by_run.setdefault(row["run_id"], []).append(row)
    return [
        RunHints(
            tenant_id=tenant_id,
            run_id=run_id,
            chord=_agents(of_run, "chord"),
            agents=_agents(of_run, "queued"),
            advance=any(row["what"] == "advance" for row in of_run),
        )
        for run_id, of_run in by_run.items()
    ]


def _agents(rows: Iterable[Row], what: str) -> list[AgentHint]:
    return [AgentHint(row["agent_run_id"], row["priority"]) for row in rows if row["what"] == what]
