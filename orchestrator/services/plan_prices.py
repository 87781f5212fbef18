"""What plans cost the open tenant, and whether a run can do with what it may spend."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import ClassVar

from django.conf import settings

from agents_app.core.tools import Tool
from agents_app.models import Agent
from agents_app.selectors.toolboxes import toolbox_of
from costs.core.errors import UnknownPriceError
from costs.core.money import format_usd
from costs.core.pricing import Price, library_context_window
from costs.selectors.prices import PriceRow, price_of, price_rows
from orchestrator.core.call_sizes import agent_config
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.handed_price import team_of
from orchestrator.core.jsonvalue import Json
from orchestrator.core.plan import Plan, plan_from_json
from orchestrator.core.plan_price import plan_price
from orchestrator.core.prices import Priceable, Team, Terms
from orchestrator.models import WorkflowVersion
from orchestrator.services.workflows import agent_content
from tenants.kernel.clock import now
from tenants.scope import current_tenant_id


class CapTooSmallError(OrchestratorError):
    """Even the cheapest way through the workflow does not fit what the run may spend."""

    code: ClassVar[str] = "cap_too_small"
    loc: ClassVar[str] = "/max_cost_usd"

    def __init__(self, least_nano: int, cap_nano: int) -> None:
        super().__init__(least_nano, cap_nano)
        self.least_nano, self.cap_nano = least_nano, cap_nano

    def __str__(self) -> str:
        return (
            f"The cheapest way through this workflow needs {format_usd(self.least_nano)} USD, and "
            f"the run may spend {format_usd(self.cap_nano)}. Raise max_cost_usd, or lower what "
            "its calls may cost: their models' prices or max_output_tokens."
        )


def check_cap(
    plan: Plan,
    *,
    input: Json,
    max_cost_nano: int,
    rows: Sequence[PriceRow] | None = None,
) -> None:
    """Raises CapTooSmallError if a run with this input cannot complete within its cap.

    A call is only made if its worst case can be set aside, so the cap has to hold the dearest call
    of the cheapest way too. Where that is not known, since a model has no price, nothing is
    refused, nor where a ladder makes the way cheaper as it goes. `rows` are the prices to go by,
    else those of the open tenant.
    """
    if plan.degrade:
        return
    least = plan_price(Priceable(plan=plan), terms(rows), input=input).least_cap
    if least is not None and least > max_cost_nano:
        raise CapTooSmallError(least, max_cost_nano)


def terms(rows: Sequence[PriceRow] | None = None) -> Terms:
    """What the open tenant's plans are priced by, today."""
    known = price_rows() if rows is None else rows
    today = now().date()

    @cache
    def price(provider: str, model: str) -> Price | None:
        try:
            return price_of(known, provider=provider, model=model, on=today)
        except UnknownPriceError:
            return None

    return Terms(
        price_of=price,
        window_of=cache(library_context_window),
        workflow_of=_workflow,
        attempts=settings.MAX_RETRIES,
        max_added_steps=settings.MUSTER_MAX_ADDED_STEPS,
        tool_of=_tools(),
        team_of=cache(_team),
    )


def _tools() -> Callable[[str], Tool | None]:
    @cache
    def tools() -> dict[str, Tool]:
        return {tool.name: tool for tool in toolbox_of(current_tenant_id())}

    return lambda name: tools().get(name)


def _team(slug: str) -> Team:
    agent = Agent.objects.filter(slug=slug).first()
    return team_of(agent_config(agent_content(agent))) if agent else Team()


def _workflow(version_id: str) -> Priceable:
    version = WorkflowVersion.objects.get(id=version_id)
    return Priceable(plan=plan_from_json(version.plan), inputs=version.spec.get("inputs"))
