"""Budgets and alerts: what may be spent, what was, and what people were told of it."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from costs.api.serializers import Usd, UsdText, zone_of
from costs.models import MOST_PERCENT, MOST_THRESHOLDS, AlertKind, Budget, BudgetScope, Interval
from orchestrator.selectors.budgets import ShownBudget, alerts_of, budgets_of, shown, without_caps
from orchestrator.services.budgets import change_budget, create_budget, delete_budget, lowered_below
from tenants.api.base import ApiView, no_content
from tenants.api.serializers import Query, Strict, Text
from tenants.permissions import HasScope, WritesOfWholeTenant
from tenants.roles import Scope


class BudgetChange(Strict):
    name = Text(max_length=120, trim_whitespace=True)
    limit_usd = UsdText(source="limit_nano")
    is_hard = serializers.BooleanField(required=False)
    thresholds = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=MOST_PERCENT),
        required=False,
        max_length=MOST_THRESHOLDS,
        help_text="Percentages of the limit at which people are told.",
    )
    is_enabled = serializers.BooleanField(required=False)

    def validate_thresholds(self, value: list[int]) -> list[int]:
        return sorted(set(value))


class BudgetBody(BudgetChange):
    """What a budget is for, and its period, are settled for good."""

    scope = serializers.ChoiceField(BudgetScope.choices)
    scope_id = serializers.UUIDField(
        required=False, allow_null=True, help_text="The project or workflow."
    )
    agent = serializers.SlugField(required=False, max_length=63)
    interval = serializers.ChoiceField(Interval.choices, required=False, default=Interval.MONTH)
    time_zone = serializers.CharField(required=False, max_length=64, default="UTC")

    def validate_time_zone(self, value: str) -> str:
        zone_of(value)
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        scope = attrs["scope"]
        needs_id = scope in (BudgetScope.PROJECT, BudgetScope.WORKFLOW)
        wrong = {}
        if needs_id != bool(attrs.get("scope_id")) and scope != BudgetScope.RUN:
            wrong["scope_id"] = f"A budget of a {scope} {'needs' if needs_id else 'has no'} id."
        if (scope == BudgetScope.AGENT) != bool(attrs.get("agent")):
            wrong["agent"] = "Name the agent of a budget of an agent, and of no other."
        if wrong:
            raise serializers.ValidationError(wrong, "scope")
        return attrs


class BudgetQuery(Query):
    scope = serializers.ChoiceField(
        BudgetScope.choices, required=False, help_text="`run` lists the caps of runs."
    )
    scope_id = serializers.UUIDField(required=False)


class PeriodOut(serializers.Serializer[Any]):
    """The period under way; times are null where it is for good."""

    key = serializers.CharField()
    starts_at = serializers.DateTimeField(allow_null=True)
    ends_at = serializers.DateTimeField(allow_null=True)
    spent_usd = Usd(source="spent")
    held_usd = Usd(source="held", help_text="For calls under way.")
    left_usd = Usd(source="left")
    overrun_usd = Usd(source="overrun", help_text="By how much it is above its limit.")
    is_refusing = serializers.BooleanField(help_text="A call was refused in it for good.")
    forecast_usd = Usd(source="forecast", allow_null=True)


class BudgetOut(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="budget.id")
    name = serializers.CharField(source="budget.name")
    scope = serializers.ChoiceField(BudgetScope.choices, source="budget.scope")
    scope_id = serializers.UUIDField(source="budget.scope_id", allow_null=True)
    agent = serializers.CharField(source="budget.agent")
    scope_name = serializers.CharField(source="what")
    interval = serializers.ChoiceField(Interval.choices, source="budget.interval")
    time_zone = serializers.CharField(source="budget.time_zone")
    limit_usd = Usd(source="budget.limit_nano")
    is_hard = serializers.BooleanField(source="budget.is_hard")
    thresholds = serializers.ListField(child=serializers.IntegerField(), source="budget.thresholds")
    is_enabled = serializers.BooleanField(source="budget.is_enabled")
    is_operators = serializers.BooleanField(source="budget.is_operators")
    period = PeriodOut()
    warning = serializers.SerializerMethodField(help_text="Such as a limit below what is spent.")
    created_at = serializers.DateTimeField(source="budget.created_at")
    updated_at = serializers.DateTimeField(source="budget.updated_at")

    def get_warning(self, row: ShownBudget) -> str:
        return lowered_below(row.budget, row.period.spent + row.period.held)


class AlertOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    at = serializers.DateTimeField(source="created_at")
    kind = serializers.ChoiceField(AlertKind.choices)
    budget_id = serializers.UUIDField(allow_null=True)
    budget_name = serializers.CharField()
    run_id = serializers.UUIDField(allow_null=True, help_text="The run that was paused.")
    period = serializers.CharField()
    threshold = serializers.IntegerField(help_text="Percent; 0 if it is not of a budget.")
    spent_usd = Usd(
        source="spent_nano", help_text="As it was found. Of a run that spends fast: in a minute."
    )
    limit_usd = Usd(source="limit_nano", help_text="Of the budget; or from here on it is told of.")
    refuses = serializers.BooleanField()
    mailed_at = serializers.DateTimeField(allow_null=True)


class BudgetView(ApiView):
    """What may be spent on something, in a period. Hard ones refuse calls, soft ones only tell."""

    read_scope = Scope.COSTS_READ
    write_scope = Scope.ADMIN
    permission_classes = (HasScope, WritesOfWholeTenant)

    @extend_schema(parameters=[BudgetQuery], responses=BudgetOut(many=True))
    def list(self, request: Request) -> Response:
        """All but the caps of runs, which `scope=run` lists."""
        asked = self.query(BudgetQuery)
        rows = budgets_of(self.principal).filter(**asked)
        rows = rows if "scope" in asked else without_caps(rows)
        return self.page(rows, BudgetOut, prepared=shown)

    @extend_schema(responses=BudgetOut)
    def retrieve(self, request: Request, **_: Any) -> Response:
        return self._one(self.found(budgets_of(self.principal)))

    @extend_schema(request=BudgetBody, responses={201: BudgetOut})
    def create(self, request: Request) -> Response:
        """It counts the calls that are made from now on."""
        budget = create_budget(**self.body(BudgetBody))
        (row,) = shown([budget])
        data = self.shown(BudgetOut, row)
        return self.created(data, at="budgets-detail")

    @extend_schema(request=BudgetChange(partial=True), responses=BudgetOut)
    def partial_update(self, request: Request, **_: Any) -> Response:
        """A raise holds for the very next call; runs that ended for it can be resumed."""
        budget = self.found(budgets_of(self.principal))
        changes = self.body(BudgetChange, partial=True)
        by_operator = self.principal.is_operator
        return self._one(change_budget(budget, by_operator=by_operator, changes=changes))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, **_: Any) -> Response:
        budget = self.found(budgets_of(self.principal))
        delete_budget(budget, by_operator=self.principal.is_operator)
        return no_content()

    def _one(self, budget: Budget) -> Response:
        (row,) = shown([budget])
        return self.one(row, BudgetOut)


class AlertView(ApiView):
    """What people were told about money: each threshold of a period once."""

    read_scope = Scope.COSTS_READ

    @extend_schema(responses=AlertOut(many=True))
    def list(self, request: Request) -> Response:
        self.query(Query)
        return self.page(alerts_of(self.principal), AlertOut)

    @extend_schema(responses=AlertOut)
    def retrieve(self, request: Request, **_: Any) -> Response:
        return self.one(self.found(alerts_of(self.principal)), AlertOut)
