"""One attempt at an agent run, from claim to outcome."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import psycopg
import structlog
from django.db import DatabaseError
from psycopg_pool import PoolTimeout
from pydantic import JsonValue

from agents_app.core.agent import AgentConfig, Ports
from agents_app.core.roles import Role
from agents_app.core.values import as_text
from agents_app.runtime import run_agent
from agents_app.tools.builtin import BUILTIN_TOOLS
from orchestrator.core import template
from orchestrator.core.plan import PlannedStep
from orchestrator.dispatch.canvas import AgentHint, publish_advance, publish_agents
from orchestrator.execution.claims import Claim, claim
from orchestrator.execution.errors import LeaseLostError
from orchestrator.execution.finishes import Finish, finish
from orchestrator.execution.gateway import GuardedClient
from orchestrator.execution.leases import Lease, LeaseKeeper, lease_length
from orchestrator.execution.versions import plan_of
from tenants.kernel.errors import PlatformError

log = structlog.get_logger(__name__)

_DATABASE_AWAY = (psycopg.OperationalError, PoolTimeout, DatabaseError)
_UNFORESEEN = {
    "code": "internal_error",
    "message": "The platform failed while it worked on this step; its log tells more.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """How an attempt ended: with an output, or with an error that a person can read."""

    prompt: str | None = None
    output: JsonValue = None
    error: Mapping[str, JsonValue] | None = None

    @property
    def status(self) -> str:
        return "failed" if self.error else "completed"

    @property
    def reason(self) -> str:
        return str(self.error["message"]) if self.error else ""


def execute(tenant_id: UUID, agent_run_id: UUID, *, worker: str) -> None:
    """Claim the agent run, work on it, record what came of it. Never raises for its sake."""
    try:
        claimed = claim(tenant_id, agent_run_id, worker=worker, lease=lease_length())
    except _DATABASE_AWAY as error:
        # The row is still queued; the sweeper sends its message again.
        log.warning("claim_failed", error=type(error).__name__)
        return
    if claimed is None:
        return
    bound = structlog.contextvars.bound_contextvars(
        tenant_id=str(tenant_id),
        run_id=str(claimed.run_id),
        step=claimed.step,
        attempt=claimed.attempt,
    )
    with bound, _keeper(worker).holding(agent_run_id, claimed.attempt) as lease:
        try:
            result = _attempt(claimed, lease)
        except LeaseLostError as error:
            # Whoever holds the next attempt will report; nothing of this one may be written.
            log.warning("attempt_given_up", reason=str(error))
            return
        except _DATABASE_AWAY as error:
            # Not the step's fault: its lease runs out, and the next attempt does it.
            log.warning("attempt_given_up", reason=type(error).__name__)
            return
        _finish(claimed, result, lease)


def _attempt(claimed: Claim, lease: Lease) -> _Result:
    step = plan_of(claimed.tenant_id, claimed.version_id).step(claimed.step)
    prompt: str | None = None
    try:
        config = _configure(step, claimed)
        prompt = config.prompt or None
        client = GuardedClient(claimed, lease, role=str(config.role or ""))
        outcome = run_agent(
            config,
            inputs={name: claimed.outputs.get(name) for name in step.needs},
            ports=Ports(model=client, tools=BUILTIN_TOOLS),
        )
    except (LeaseLostError, *_DATABASE_AWAY):
        raise
    except PlatformError as error:
        return _Result(prompt=prompt, error=_told(error))
    except Exception:
        log.exception("agent_run_broke")
        return _Result(prompt=prompt, error=_UNFORESEEN)
    return _Result(prompt=prompt, output=outcome.output)


def _told(error: PlatformError) -> dict[str, JsonValue]:
    return {"code": error.code, "message": str(error), "retryable": error.retryable}


_TEMPLATED = ("prompt", "arguments")
# What an agent is set to beyond its templates; the rest of a saved agent is for people.
_PLAIN = (
    "type",
    "provider",
    "model",
    "system",
    "parameters",
    "output_schema",
    "tool",
    "mode",
    "separator",
)


def _configure(step: PlannedStep, claimed: Claim) -> AgentConfig:
    """The step's agent, its templates rendered against the run's input and outputs."""
    context: dict[str, Any] = {
        "input": claimed.input,
        "steps": {name: {"output": output} for name, output in claimed.outputs.items()},
    }
    config = step.config
    given: dict[str, Any] = {name: config[name] for name in _PLAIN if name in config}
    given |= {name: template.render(config[name], context) for name in _TEMPLATED if name in config}
    if "prompt" in given:
        # A prompt that is one variable keeps the variable's type; models read text.
        given["prompt"] = as_text(given["prompt"])
    return AgentConfig(
        **given,
        role=Role(step.role) if step.role else None,
        deadline_seconds=float(step.timeout_seconds),
        attempt=claimed.attempt,
    )


def _finish(claimed: Claim, result: _Result, lease: Lease) -> None:
    given = Finish(
        tenant_id=claimed.tenant_id,
        agent_run_id=claimed.agent_run_id,
        attempt=claimed.attempt,
        status=result.status,
        reason=result.reason,
        prompt=result.prompt,
        output=result.output,
        error=result.error,
    )
    done = finish(given, give_up=lease.lost.is_set)
    if done is None:
        log.warning("outcome_dropped", reason="the attempt lost its lease")
        return
    if done.next_agent_run is not None:
        hint = AgentHint(done.next_agent_run, done.next_priority)
        publish_agents(claimed.tenant_id, claimed.run_id, [hint])
    if done.advance:
        publish_advance(claimed.tenant_id, claimed.run_id)


@cache
def _keeper(worker: str) -> LeaseKeeper:
    return LeaseKeeper(worker, lease=lease_length())
