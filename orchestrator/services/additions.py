"""Examines the steps that an agent wants added to its run, and compiles them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final

from django.conf import settings
from django.db import connection
from pydantic import JsonValue

from agents_app.core.agent import AddedSteps
from agents_app.core.delegation import Delegation
from agents_app.core.errors import DelegationRefusedError
from orchestrator.core.additions import Fragment, check_depth, check_places, refused
from orchestrator.core.delegated import asked_first, must_ask
from orchestrator.core.errors import AddedStepsError, TooManyAddedStepsError, WorkflowInvalidError
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.places import name_at
from orchestrator.core.plan import Plan
from orchestrator.core.plan_price import plan_price
from orchestrator.core.prices import Priceable
from orchestrator.core.problems import Problem
from orchestrator.core.validation import examine
from orchestrator.execution.claims import Claim
from orchestrator.execution.versions import addition_of
from orchestrator.models import WorkflowVersion
from orchestrator.services.plan_prices import terms
from orchestrator.services.workflows import compiled, tenant_catalog
from tenants.scope import tenant_scope

# Whoever has delegated steps is told which of them failed, and decides what that means.
_OBSERVED: Final[Mapping[str, JsonValue]] = {
    "failure": {"mode": "partial", "critical_priority": 10, "max_failed_ratio": 1.0}
}
# More than an agent has: the turns that it takes after a retry by hand have numbers of their own.
_TURNS: Final = 10_000


class Delegations:
    """Takes in what one attempt of an agent delegates; `written` is for its outcome."""

    def __init__(self, claimed: Claim) -> None:
        self._claimed = claimed
        self.written: dict[str, Any] | None = None

    def take(self, wanted: Delegation) -> None:
        """Raises DelegationRefusedError with every problem."""
        number = self._claimed.forgiven * _TURNS + wanted.turn
        addition = _Addition(self._claimed, below=f"{self._claimed.step}.{number}")
        try:
            addition.take(wanted)
        except AddedStepsError as error:
            raise DelegationRefusedError(str(error)) from error
        self.written = {
            "number": number,
            "forgiven": self._claimed.forgiven,
            "awaited": {"turn": wanted.turn, "calls": dict(wanted.calls)},
            "output": wanted.given,
            **addition.written,
        }


def added_by(claimed: Claim, wanted: AddedSteps, *, output: Any) -> dict[str, Any]:
    """What is written with the outcome of an agent run that adds steps.

    `output` is what it gives them. Raises AddedStepsError with every problem.
    """
    addition = _Addition(claimed, below=claimed.step)
    addition.add(wanted)
    return {"output": output, **addition.written}


class _Addition:
    """Steps that an agent run adds, to stand `below` a place."""

    def __init__(self, claimed: Claim, *, below: str) -> None:
        by = claimed.added_by
        self._claimed = claimed
        self._below = below
        self._depth = 1 + (addition_of(claimed.tenant_id, by).depth if by else 0)
        self.written: dict[str, Any] = {}

    def take(self, wanted: Delegation) -> None:
        """Compile what is delegated, behind a person's decision where one is asked for."""
        with self._reading():
            plan, written = self._compiled(dict(wanted.steps), header=_OBSERVED)
            worst = self._worst(plan)
            if must_ask(wanted, worst):
                _, written = self._compiled(asked_first(wanted, worst), header=_OBSERVED)
        self._keep(written, worst)

    def add(self, wanted: AddedSteps) -> None:
        with self._reading():
            plan, written = self._compiled(wanted.steps, output=wanted.output)
            worst = self._worst(plan)
        self._keep(written, worst)

    def _keep(self, plan: dict[str, Any], worst_nano: int | None) -> None:
        self.written = {"plan": plan, "depth": self._depth, "worst_nano": worst_nano}

    def _worst(self, plan: Plan) -> int | None:
        return plan_price(Priceable(plan=plan), terms()).amounts.worst

    @contextmanager
    def _reading(self) -> Iterator[None]:
        check_depth(self._depth, most=settings.MUSTER_MAX_ADDED_DEPTH)
        try:
            with tenant_scope(self._claimed.tenant_id):
                yield
        finally:
            if not connection.in_atomic_block:
                # Back to the pool at once: hundreds of threads may share it.
                connection.close()

    def _compiled(
        self,
        steps: JsonValue,
        *,
        output: JsonValue = None,
        header: Mapping[str, JsonValue] | None = None,
    ) -> tuple[Plan, dict[str, Any]]:
        """`header` stands in place of what they inherit. Raises AddedStepsError."""
        # For the run as a whole `advance` counts; what passes the bound alone is not even examined.
        if isinstance(steps, dict | list) and len(steps) > settings.MUSTER_MAX_ADDED_STEPS:
            raise TooManyAddedStepsError(settings.MUSTER_MAX_ADDED_STEPS)
        version = self._version
        fragment = Fragment(
            by=name_at(self._claimed.step),
            header={**version.spec, **(header or {})},
            steps=steps,
            output=output,
        )
        if fragment.by in fragment.names:
            told = f"`{fragment.by}` is the step that adds them; choose another name"
            raise refused([Problem(f"/steps/{fragment.by}", "duplicate_name", told)])
        report = examine(fragment.as_workflow(), tenant_catalog())
        if not report.can_publish:
            raise refused([*report.problems, *report.unsupported])
        try:
            spec = spec_from_mapping(fragment.alone())
            plan, written = compiled(spec, version.workflow.project)
        except WorkflowInvalidError as error:
            raise refused(error.problems) from error
        check_places(self._below, plan)
        return plan, written

    @cached_property
    def _version(self) -> WorkflowVersion:
        versions = WorkflowVersion.objects.select_related("workflow__project")
        return versions.get(id=self._claimed.version_id)
