"""One attempt at an agent run, from claim to outcome."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from random import Random
from typing import Any
from uuid import UUID, uuid5

import psycopg
import structlog
from django.conf import settings
from django.db import DatabaseError
from psycopg_pool import PoolTimeout
from pydantic import JsonValue

from agents_app.core import observations
from agents_app.core.agent import DESCRIBED, AgentConfig, Outcome, Ports
from agents_app.core.approving import HeldCall
from agents_app.core.completing import NO_COMPLETING, Completing
from agents_app.core.complexity import complexity_of
from agents_app.core.errors import AgentNotAllowedError, OutputTooLargeError, ProviderError
from agents_app.core.roles import Role
from agents_app.core.tools import Toolbox, ToolContext
from agents_app.core.values import as_text, json_size
from agents_app.runtime import run_agent
from agents_app.selectors.agent_grants import is_withheld
from agents_app.selectors.toolboxes import toolbox_of
from agents_app.tool_threads import ToolThreads
from orchestrator.core import marking, template
from orchestrator.core.capabilities import capabilities_of
from orchestrator.core.errors import AddedStepsError
from orchestrator.core.held import question_about
from orchestrator.core.hints import hints_of
from orchestrator.core.places import surroundings_of
from orchestrator.core.plan import PlannedStep
from orchestrator.core.replay import overridden
from orchestrator.core.retry import RetryPolicy
from orchestrator.core.spec import ModelChoice, RetrySpec
from orchestrator.core.state import AgentRunStatus, WaitingReason
from orchestrator.dispatch.canvas import publish
from orchestrator.dispatch.live import nudge
from orchestrator.dispatch.live_text import speeches
from orchestrator.execution import engine_db
from orchestrator.execution.answer_cache import AnswerCache
from orchestrator.execution.claims import Claim, claim
from orchestrator.execution.completions import Completions
from orchestrator.execution.context_rows import ContextRows
from orchestrator.execution.crashpoints import crash_here
from orchestrator.execution.errors import (
    BudgetExceededError,
    LeaseLostError,
    MustWaitError,
    RunStoppingError,
)
from orchestrator.execution.finishes import Finish, finish
from orchestrator.execution.gateway import GuardedClient
from orchestrator.execution.ladder import Ladder
from orchestrator.execution.leases import Lease, keeper_of, lease_length
from orchestrator.execution.memory_rows import MemoryRows
from orchestrator.execution.messages import Messages
from orchestrator.execution.todo_rows import TodoRows
from orchestrator.execution.tool_rows import ToolRows
from orchestrator.execution.versions import ladder_of, planned_step
from orchestrator.monitoring.host import host_sample
from orchestrator.services import additions
from orchestrator.services.choosing import with_chosen_agent
from tenants.kernel.errors import PlatformError

log = structlog.get_logger(__name__)

MAX_OUTPUT_BYTES = 10_000_000
# A pause up to this long is slept through; longer ones give the worker's thread back.
SHORT_PAUSE_SECONDS = 2.0

_WAKE = "SELECT * FROM muster_wake(%s, %s, %s::uuid[])"
_spread = Random()  # noqa: S311 - spreads retries, guards nothing
# Of these only a tool may ask where it is.
_AGENTLESS = frozenset({"tool", "aggregator"})
_DATABASE_AWAY = (psycopg.OperationalError, PoolTimeout, DatabaseError)
_UNFORESEEN = {
    "code": "internal_error",
    "message": "The platform failed while it worked on this step; its log tells more.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """How an attempt ended: with an output, or with an error that a person can read.

    `again_in` is the pause in seconds before the next attempt, if there is to be one; `wait` is
    what it waits for that is no failure, `held` are the calls that people have to agree to first.
    """

    prompt: str | None = None
    output: JsonValue = None
    added: Mapping[str, JsonValue] | None = None
    delegated: Mapping[str, JsonValue] | None = None
    held: Sequence[HeldCall] = ()
    error: Mapping[str, JsonValue] | None = None
    again_in: float | None = None
    wait: MustWaitError | None = None
    is_cancelled: bool = False
    is_out_of_budget: bool = False

    @property
    def status(self) -> AgentRunStatus:
        if self.is_cancelled:
            return AgentRunStatus.CANCELLED
        if self.is_out_of_budget:
            return AgentRunStatus.BUDGET_EXCEEDED
        if self.again_in is not None or self.delegated is not None or self.held:
            return AgentRunStatus.WAITING
        if self.added is not None:
            # It stands for the steps that it has added, until these have ended.
            return AgentRunStatus.RUNNING
        return AgentRunStatus.FAILED if self.error else AgentRunStatus.COMPLETED

    @property
    def waits_for(self) -> WaitingReason:
        if self.wait:
            return self.wait.reason
        if self.held:
            return WaitingReason.APPROVAL
        return WaitingReason.DELEGATION if self.delegated is not None else WaitingReason.RETRY

    @property
    def reason(self) -> str:
        if self.wait:
            return str(self.wait)
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
    crash_here("after_claim")
    bound = structlog.contextvars.bound_contextvars(
        tenant_id=str(tenant_id),
        run_id=str(claimed.run_id),
        step=claimed.step,
        attempt=claimed.attempt,
    )
    nudge(claimed.run_id)
    with bound:
        with keeper_of(worker).holding(agent_run_id, claimed.attempt) as lease:
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
            is_written = _finish(claimed, result, lease)
        pause = None if result.wait else result.again_in
        if is_written and pause is not None and pause <= SHORT_PAUSE_SECONDS:
            _wake_soon(claimed, pause)


def _attempt(claimed: Claim, lease: Lease) -> _Result:
    prompt: str | None = None
    step: PlannedStep | None = None
    delegations = additions.Delegations(claimed)
    try:
        where = (claimed.tenant_id, claimed.version_id, claimed.step, claimed.added_by)
        step = planned_step(*where)
        if step.choice is not None:
            step, claimed = with_chosen_agent(step, step.choice, claimed, lease)
        if claimed.overrides:
            step = overridden(step, claimed.overrides)
        config = _configure(step, claimed)
        lease.expect_end(within_seconds=step.timeout_seconds)
        prompt, role = config.prompt or None, str(config.role or "")
        _refuse_withheld(config, claimed)
        tools = _tools(config, claimed.tenant_id)
        outcome = run_agent(
            config,
            inputs=_inputs(step, claimed),
            ports=Ports(
                model=_client(
                    claimed,
                    lease,
                    step,
                    role=role,
                    fallback=step.fallback,
                    is_last_try=next_pause(step.retry, failures=claimed.failures + 1) is None,
                    speaking=speeches().speaking,
                    cache=_cache(step, claimed, role=role),
                    batch_seconds=step.batch_seconds,
                ),
                tools=tools,
                context=_context(claimed, lease, step, config, tools),
                journal=ToolRows(claimed, lease),
                hands=ToolThreads(lambda: _check(claimed, lease)),
                delegating=delegations,
            ),
        )
        return replace(_result(claimed, step, outcome, delegations), prompt=prompt)
    except (LeaseLostError, *_DATABASE_AWAY):
        raise
    except PlatformError as error:
        return replace(_ended_by(error, step, claimed), prompt=prompt)
    except Exception:
        log.exception("agent_run_broke")
        return _Result(prompt=prompt, error=_UNFORESEEN)


def _result(
    claimed: Claim, step: PlannedStep, outcome: Outcome, delegations: additions.Delegations
) -> _Result:
    if outcome.delegates:
        return _Result(delegated=delegations.written)
    if outcome.held:
        return _Result(held=outcome.held)
    _check_size(outcome.output)
    added = _added(claimed, step, outcome)
    _check_size(added)
    return _Result(output=outcome.output) if added is None else _Result(added=added)


def _client(
    claimed: Claim, lease: Lease, step: PlannedStep, *, role: str, **how: Any
) -> GuardedClient:
    """What its model is asked through, for its own turns and for what its tools ask."""
    return GuardedClient(
        claimed,
        lease,
        role=role,
        cap_nano=step.max_cost_nano,
        max_wait=step.max_wait_seconds or settings.MUSTER_MAX_WAIT_SECONDS,
        ladder=_ladder(step, claimed, lease),
        **how,
    )


def _check(claimed: Claim, lease: Lease) -> None:
    """Raises what its tools are given up for."""
    if lease.lost.is_set():
        raise LeaseLostError(claimed.step, claimed.attempt)
    if lease.stopping.is_set():
        raise RunStoppingError


def _tools(config: AgentConfig, tenant_id: UUID) -> Toolbox:
    """All of the tenant's, for an agent that has any; others need no look at them."""
    return toolbox_of(tenant_id) if config.tools or config.tool else Toolbox()


def _refuse_withheld(config: AgentConfig, claimed: Claim) -> None:
    """Foreign code is not run for tenants that do not want it any more."""
    name = config.implementation
    if config.type == "custom" and is_withheld(claimed.tenant_id, name):
        raise AgentNotAllowedError(name)


def _context(
    claimed: Claim, lease: Lease, step: PlannedStep, config: AgentConfig, tools: Toolbox
) -> ToolContext | None:
    """None for steps that no agent looks at, which are over as soon as it is made."""
    if config.type in _AGENTLESS and not tools.takes_context(config.tool):
        return None
    # After a retry by hand its conversation begins anew, with calls of its own.
    call_id = uuid5(claimed.agent_run_id, str(claimed.forgiven))
    return ToolContext(
        tenant_id=claimed.tenant_id,
        run_id=claimed.run_id,
        agent_run_id=claimed.agent_run_id,
        step=claimed.step,
        call_id=call_id,
        # An agent that was described in place is named by its type.
        memory=MemoryRows(
            claimed, lease, agent="" if claimed.agent == config.type else claimed.agent
        ),
        messages=Messages(claimed, lease, capabilities=capabilities_of(step)),
        shared=ContextRows(claimed, lease),
        todos=TodoRows(claimed, lease),
        models=_completions(claimed, lease, step, config),
    )


def _completions(
    claimed: Claim, lease: Lease, step: PlannedStep, config: AgentConfig
) -> Completing:
    """For tools of an agent that has a model: that one, and those that its step falls back on."""
    if not step.uses_model or not (config.provider and config.model):
        return NO_COMPLETING
    own = ModelChoice(provider=config.provider, model=config.model)
    named = {each.model: each for each in (*step.fallback, own)}
    return Completions(
        lambda call_id: _client(
            claimed, lease, step, role=str(config.role or ""), tool_call=call_id
        ),
        lease,
        models={**named, "": own},
    )


def _ladder(step: PlannedStep, claimed: Claim, lease: Lease) -> Ladder | None:
    """What is to be asked before each call, where the run's workflow has rules for calls."""
    if not step.uses_model:
        return None
    rules = ladder_of(claimed.tenant_id, claimed.version_id)
    if not any(rule.use or rule.ask for rule in rules):
        return None
    return Ladder(rules, claimed, give_up=lease.lost.is_set)


def _cache(step: PlannedStep, claimed: Claim, *, role: str) -> AnswerCache | None:
    # What is tried again, after a failure or by a person, wants another answer; who has waited, or
    # lost a worker, has failed in nothing.
    if step.cache_seconds is None or claimed.failures or claimed.forgiven:
        return None
    return AnswerCache(claimed, role=role, seconds=step.cache_seconds)


def _ended_by(error: PlatformError, step: PlannedStep | None, claimed: Claim) -> _Result:
    match error:
        case MustWaitError():
            return _Result(wait=error, again_in=error.seconds)
        case RunStoppingError():
            return _Result(error=_told(error), is_cancelled=True)
        case BudgetExceededError():
            return _Result(error=_told(error), is_out_of_budget=True)
    again_in = _pause(step, claimed, error) if step else None
    return _Result(error=_told(error), again_in=again_in)


def _added(claimed: Claim, step: PlannedStep, outcome: Outcome) -> dict[str, JsonValue] | None:
    """The steps that the agent adds to its run, ready to be written."""
    if outcome.adds is None or not outcome.adds.steps:
        return None
    if not step.grows:
        raise AddedStepsError("It may not add steps: its step does not say `adds_steps: true`")
    return additions.added_by(claimed, outcome.adds, output=outcome.output)


def _inputs(step: PlannedStep, claimed: Claim) -> dict[str, JsonValue]:
    """The outputs of the steps that it needs, by name."""
    prefix = surroundings_of(claimed.step).prefix
    return {name: claimed.outputs.get(prefix + name) for name in step.needs}


def _told(error: PlatformError) -> dict[str, JsonValue]:
    return {"code": error.code, "message": str(error), "retryable": error.retryable}


def _check_size(output: JsonValue) -> None:
    size = json_size(output)
    if size > MAX_OUTPUT_BYTES:
        raise OutputTooLargeError(size, MAX_OUTPUT_BYTES)


def _pause(step: PlannedStep, claimed: Claim, error: PlatformError) -> float | None:
    return next_pause(
        step.retry,
        failures=claimed.failures + 1,
        retryable=error.retryable,
        retry_after=error.retry_after_seconds if isinstance(error, ProviderError) else None,
    )


def next_pause(
    retry: RetrySpec | None,
    *,
    failures: int,
    retryable: bool = True,
    retry_after: float | None = None,
) -> float | None:
    """Seconds before the next attempt, or None if this failure was the last.

    As the step or its workflow says, else as the platform is set.
    """
    policy = (
        RetryPolicy.of(retry)
        if retry
        else RetryPolicy(max_attempts=settings.MAX_RETRIES, base_delay=settings.RETRY_DELAY)
    )
    return policy.next_delay(
        attempt=failures, retryable=retryable, jitter=_spread.random(), retry_after=retry_after
    )


def _wake_soon(claimed: Claim, seconds: float) -> None:
    """Sleep through a short pause; should this worker die meanwhile, the sweeper wakes the step."""
    threading.Event().wait(seconds)
    try:
        rows = engine_db.many(_WAKE, claimed.tenant_id, claimed.run_id, [claimed.agent_run_id])
    except _DATABASE_AWAY as error:
        log.warning("wake_failed", error=type(error).__name__)
        return
    publish(hints_of(claimed.tenant_id, rows))


# What an agent is set to beyond its templates and its role.
_PLAIN = DESCRIBED - {"role", "prompt", "objective", "arguments"}


def _configure(step: PlannedStep, claimed: Claim) -> AgentConfig:
    """The step's agent, its templates rendered against the run's input and outputs."""
    around = surroundings_of(claimed.step)
    context: dict[str, Any] = {"input": claimed.input, **around.variables(claimed.outputs)}
    if step.map is not None:
        context |= {"item": claimed.item, "index": claimed.item_index}
    elif around.item is not None:
        context |= {"item": claimed.item, "index": around.item[1]}
    config = step.config
    given: dict[str, Any] = {name: config[name] for name in _PLAIN if name in config}
    if "arguments" in config:
        given["arguments"] = template.render(config["arguments"], context)
    if "objective" in config:
        given["objective"] = as_text(template.render(config["objective"], context))
    if "prompt" in config:
        shown = partial(marking.shown, marked=step.marked)
        # A prompt that is one variable keeps the variable's type; models read text.
        prompt = as_text(template.render(config["prompt"], context, shown=shown))
        given["prompt"] = observations.with_data_rule(prompt) if step.marked else prompt
        # Patterns read what is asked, without the word on data; what is marked fits none of them.
        given.setdefault("objective", prompt)
    if step.by_complexity:
        asked, schema = given.get("prompt", ""), given.get("output_schema")
        measured = complexity_of(asked, system=given.get("system") or "", schema=schema)
        given["model"] = step.by_complexity[measured]
    return AgentConfig(
        **given,
        adds_steps=step.adds_steps,
        repeats_in_doubt=step.retry is not None and step.retry.in_doubt == "repeat",
        role=Role(step.role) if step.role else None,
        deadline_seconds=float(step.timeout_seconds),
        attempt=claimed.attempt,
    )


def _finish(claimed: Claim, result: _Result, lease: Lease) -> bool:
    """Whether the outcome counts; what it leads to is published."""
    given = Finish(
        tenant_id=claimed.tenant_id,
        agent_run_id=claimed.agent_run_id,
        attempt=claimed.attempt,
        status=result.status,
        reason=result.reason,
        prompt=result.prompt,
        output=result.output,
        added=result.added if result.delegated is None else result.delegated,
        error=result.error,
        again_in=result.again_in,
        waiting_for=result.waits_for,
        gate=result.wait.gate if result.wait else "",
        held=[question_about(each) for each in result.held],
        system=asdict(host_sample()),
    )
    try:
        done = finish(given, give_up=lease.lost.is_set)
    except psycopg.errors.ProgramLimitExceeded:
        done = finish(_too_large(given), give_up=lease.lost.is_set)
    if done is None:
        log.warning("outcome_dropped", reason="the attempt lost its lease")
        return False
    crash_here("before_publish")
    publish(done.hints)
    nudge(claimed.run_id)
    return True


def _too_large(given: Finish) -> Finish:
    error = {"code": "output_too_large", "message": "The database does not take so large an output"}
    return replace(
        given,
        status=AgentRunStatus.FAILED,
        reason=error["message"],
        prompt=None,
        output=None,
        added=None,
        held=(),
        error=error,
    )
