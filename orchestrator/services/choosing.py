"""Who takes a step that names a capability: settled by the first attempt, and kept to by all."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias
from uuid import UUID

from cachetools import LRUCache
from psycopg.types.json import Json

from orchestrator.core.choosing import candidates
from orchestrator.core.errors import NoCapableAgentError
from orchestrator.core.places import defined
from orchestrator.core.plan import Choice, PlannedStep, step_from_json, step_to_json
from orchestrator.core.validation import Catalog
from orchestrator.execution import engine_db
from orchestrator.execution.claims import Claim
from orchestrator.execution.crashpoints import crash_here
from orchestrator.execution.fenced import Fenced
from orchestrator.execution.leases import Lease
from orchestrator.selectors.agent_loads import agents_named
from orchestrator.services.workflows import settling, tenant_catalog
from tenants.fresh import Fresh

_STEPS_KNOWN: Final = 64
_CHOSEN: Final = "SELECT muster_agent_chosen(%s, %s) AS step"
_CHOOSE: Final = "SELECT * FROM muster_choose_agent(%s, %s, %s, %s, %s::text[], %s, %s::json[])"


# A step by its version, its place there, and the agent run that has added it.
_Key: TypeAlias = tuple[UUID, str, UUID | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What a tenant has, and who was found able to take its steps: each is looked at once."""

    catalog: Catalog
    settled: Callable[[PlannedStep], PlannedStep]
    _able: LRUCache[_Key, Sequence[PlannedStep]] = field(
        default_factory=lambda: LRUCache(maxsize=_STEPS_KNOWN)
    )
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def able(self, step: PlannedStep, choice: Choice, claimed: Claim) -> Sequence[PlannedStep]:
        """The step with each agent that can take it."""
        key = (claimed.version_id, defined(claimed.step), claimed.added_by)
        with self._guard, suppress(KeyError):
            return self._able[key]
        settled = map(self.settled, candidates(step, choice, self.catalog))
        found = tuple(each for each in settled if _suits(step, each))
        with self._guard:
            self._able[key] = found
        return found


_known: Fresh[_Known] = Fresh(lambda: _Known(catalog=tenant_catalog(), settled=settling()))


def with_chosen_agent(
    step: PlannedStep, choice: Choice, claimed: Claim, lease: Lease
) -> tuple[PlannedStep, Claim]:
    """The step with the agent that its attempts keep to, and the claim under that agent's name.

    Raises NoCapableAgentError where nobody can take it.
    """
    rows = Fenced(claimed, lease)
    written = _chosen_before(claimed, rows) or _chosen_now(step, choice, claimed, rows)
    chosen = step_from_json(written)
    return chosen, replace(claimed, agent=chosen.agent)


def forget_agents() -> None:
    """Have workers look again at once; for tests, which do not wait for seconds."""
    _known.forget()


def _chosen_before(claimed: Claim, rows: Fenced) -> Mapping[str, Any] | None:
    if claimed.attempt == 1:
        return None
    key = (claimed.tenant_id, claimed.agent_run_id)
    row = rows.persistently(lambda: engine_db.one(_CHOSEN, *key))
    written: Mapping[str, Any] | None = row["step"]
    return written


def _chosen_now(
    step: PlannedStep, choice: Choice, claimed: Claim, rows: Fenced
) -> Mapping[str, Any]:
    able = _able(step, choice, claimed)
    named = agents_named(claimed.tenant_id)
    row = rows.row(
        _CHOOSE,
        *(claimed.tenant_id, claimed.agent_run_id, claimed.attempt, choice.capability),
        [each.agent for each in able],
        [named.get(each.agent, 0) for each in able],
        [Json(step_to_json(each)) for each in able],
    )
    crash_here("after_choice")
    written: Mapping[str, Any] = row["step"]
    return written


def _able(step: PlannedStep, choice: Choice, claimed: Claim) -> Sequence[PlannedStep]:
    """The step with each agent that can take it, of whom there is one at least."""
    found = _known.of(claimed.tenant_id).able(step, choice, claimed)
    if not found:
        # What is remembered may be some seconds old, and the agent just made.
        _known.forget(claimed.tenant_id)
        found = _known.of(claimed.tenant_id).able(step, choice, claimed)
    if not found:
        raise NoCapableAgentError(choice.capability)
    return found


def _suits(step: PlannedStep, able: PlannedStep) -> bool:
    """Whether its run was prepared for what this one may do: add steps, or take a processor."""
    return (step.grows or not able.grows) and (step.is_heavy or not able.is_heavy)
