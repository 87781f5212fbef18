"""Budgets as bars, their forms, and the alerts that they led to."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from agents_app.models import Agent
from costs.core.money import format_usd
from costs.core.periods import zone_or_none
from costs.models import MOST_PERCENT, MOST_THRESHOLDS, AlertKind, Budget, BudgetScope, CostAlert
from orchestrator.admin.run_forms import UsdField
from orchestrator.models import Workflow
from orchestrator.selectors.budgets import alerts_of, budgets_of, shown, without_caps
from orchestrator.services.budgets import CHANGEABLE, change_budget, create_budget, lowered_below
from orchestrator.templatetags.muster import usd
from tenants.admin_base import TenantModelAdmin, is_operator, may, principal_of
from tenants.badges import state_badge
from tenants.models import Project
from tenants.roles import Scope

PAGE: Final = 25
_ALERTS: Final = 10
_WHOLE: Final = "tenant:"
_FIELDS: Final = ("name", "interval", "time_zone", "is_hard", "is_enabled", "is_operators")


class BudgetForm(forms.ModelForm):  # type: ignore[type-arg]
    """One choice says what it is for; that and the period stay once it is made."""

    target = forms.ChoiceField(label="For", required=False, widget=UnfoldAdminSelectWidget)
    limit = UsdField(
        label="Limit (USD)",
        required=True,
        widget=UnfoldAdminTextInputWidget,
        help_text="It may be lowered below what is spent: then nothing more is let through.",
    )
    percentages = forms.CharField(
        label="Tell people at (%)",
        required=False,
        initial="50, 80, 100",
        widget=UnfoldAdminTextInputWidget,
    )

    class Meta:
        model = Budget
        fields = _FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, label in (("is_hard", "Hard"), ("is_enabled", "Enabled")):
            self.fields[name].label = label
        if self.instance._state.adding:
            self.fields["target"].choices = _targets()  # type: ignore[attr-defined]
            return
        del self.fields["target"]
        self.initial["limit"] = format_usd(self.instance.limit_nano)
        self.initial["percentages"] = ", ".join(map(str, self.instance.thresholds))

    def clean_time_zone(self) -> str:
        name = str(self.cleaned_data["time_zone"])
        if zone_or_none(name) is None:
            raise ValidationError("There is no such time zone; write one such as Europe/Berlin.")
        return name

    def clean_percentages(self) -> list[int]:
        parts = self.cleaned_data["percentages"].replace("%", "").split(",")
        texts = [part.strip() for part in parts if part.strip()]
        if not all(t.isdecimal() and 1 <= int(t[:9]) <= MOST_PERCENT for t in texts):
            raise ValidationError(f"Write numbers from 1 to {MOST_PERCENT}, such as 50, 80, 100.")
        percentages = sorted({int(text) for text in texts})
        if len(percentages) > MOST_THRESHOLDS:
            raise ValidationError(f"Write at most {MOST_THRESHOLDS} of them.")
        return percentages

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors and self.instance._state.adding and self._has_like(cleaned):
            self.add_error("target", "It has a budget for this period already; change that one.")
        return cleaned

    def _has_like(self, cleaned: dict[str, Any]) -> bool:
        facts = {**_target_facts(cleaned["target"]), "interval": cleaned["interval"]}
        facts["is_operators"] = cleaned.get("is_operators", False)
        return Budget.objects.filter(**facts).exists()

    def _post_clean(self) -> None:
        """The services and the database judge the row; Django's own checks know it half only."""

    def facts(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        fields: dict[str, Any] = {name: cleaned[name] for name in _FIELDS if name in cleaned}
        own = {"limit_nano": cleaned["limit"], "thresholds": cleaned["percentages"]}
        return {
            **fields,
            **own,
            **(_target_facts(cleaned["target"]) if "target" in cleaned else {}),
        }


def _targets() -> list[tuple[str, Any]]:
    projects = [(f"project:{p.id}", p.slug) for p in Project.objects.order_by("slug")]
    workflows = [(f"workflow:{w.id}", w.name) for w in Workflow.objects.order_by("name")]
    agents = [(f"agent:{a.slug}", a.slug) for a in Agent.objects.order_by("slug")]
    groups = (("Project", projects), ("Workflow", workflows), ("Agent", agents))
    return [(_WHOLE, "The whole tenant"), *((name, some) for name, some in groups if some)]


def _target_facts(target: str) -> dict[str, Any]:
    scope, _, what = (target or _WHOLE).partition(":")
    is_agent = scope == BudgetScope.AGENT
    scope_id = UUID(what) if what and not is_agent else None
    return {"scope": scope, "scope_id": scope_id, "agent": what if is_agent else ""}


@admin.register(Budget)
class BudgetAdmin(TenantModelAdmin):
    view_scope = Scope.COSTS_READ
    edit_scope = Scope.ADMIN
    form = BudgetForm
    change_form_outer_before_template = "admin/costs/budget_state.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Budget]:
        return budgets_of(principal_of(request))

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:
        given = ["name", "limit", "percentages", "is_hard", "is_enabled"]
        if obj is None:
            given[1:1] = ["target", "interval", "time_zone"]
            given += ["is_operators"] if is_operator(request) else []
        return given

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_ours = not (isinstance(obj, Budget) and obj.is_operators) or is_operator(request)
        return is_ours and self.may_edit(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        facts = form.facts()
        if not change:
            made = create_budget(**facts)
            obj.pk, obj.name = made.pk, made.name
            return
        changes = {name: facts[name] for name in CHANGEABLE if name in facts}
        change_budget(obj, by_operator=is_operator(request), changes=changes)
        (row,) = shown([obj])
        if warning := lowered_below(obj, row.period.spent + row.period.held):
            self.message_user(request, warning, messages.WARNING)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        budget = context.get("original")
        if budget is not None:
            (context["row"],) = shown([budget])
        page: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return page

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        principal = principal_of(request)
        rows = without_caps(budgets_of(principal)).order_by("name", "id")
        page = Paginator(rows, PAGE).get_page(request.GET.get("p"))
        alerts = alerts_of(principal)[:_ALERTS]
        # An alert outlives its budget.
        kept = budgets_of(principal).filter(id__in=[alert.budget_id for alert in alerts])
        context = {
            **self.admin_site.each_context(request),
            "title": "Budgets",
            "page": page,
            "budgets": shown(page.object_list),
            "alerts": alerts,
            "linked": set(kept.values_list("id", flat=True)),
            "may_edit": may(request, Scope.ADMIN),
        }
        return TemplateResponse(request, "admin/costs/budgets.html", context)


@admin.register(CostAlert)
class CostAlertAdmin(TenantModelAdmin):
    """What people were told. Read-only."""

    view_scope = Scope.COSTS_READ
    list_display = ("when", "what", "period", "spent", "limit", "mailed")
    list_filter = ("kind",)
    ordering = ("-id",)
    fields = ("created_at", "what", "period", "spent", "limit", "refuses", "run_link", "mailed")

    def get_queryset(self, request: HttpRequest) -> QuerySet[CostAlert]:
        return alerts_of(principal_of(request))

    @admin.display(description="What")
    def what(self, alert: CostAlert) -> SafeString:
        if alert.kind == AlertKind.VELOCITY:
            return state_badge("paused", "⏸", "run paused for its spend")
        if alert.kind == AlertKind.ASK:
            return state_badge("paused", "⏸", "run asks before it spends more")
        if alert.kind == AlertKind.UNUSUAL:
            return state_badge("waiting", "!", "unusual spend")
        if alert.refuses:
            return state_badge("budget_exceeded", "$", f"{alert.budget_name} exhausted")
        return state_badge("waiting", "$", f"{alert.budget_name} {alert.threshold} %")

    @admin.display(description="When (UTC)", ordering="created_at")
    def when(self, alert: CostAlert) -> datetime:
        return alert.created_at

    @admin.display(description="Spent", ordering="spent_nano")
    def spent(self, alert: CostAlert) -> str:
        return usd(alert.spent_nano)

    @admin.display(description="Limit")
    def limit(self, alert: CostAlert) -> str:
        return usd(alert.limit_nano)

    @admin.display(description="Run")
    def run_link(self, alert: CostAlert) -> str:
        if alert.run_id is None:
            return "\N{EN DASH}"
        url = reverse("admin:orchestrator_run_change", args=[alert.run_id])
        return format_html('<a class="m-link" href="{}">{}</a>', url, alert.run_id)

    @admin.display(description="Mailed")
    def mailed(self, alert: CostAlert) -> str:
        if alert.mailed_at:
            people = f"{alert.mailed_to} address{'' if alert.mailed_to == 1 else 'es'}"
            at = alert.mailed_at.astimezone(ZoneInfo("UTC"))
            return f"to {people}, {at:%Y-%m-%d %H:%M} UTC"
        return "not yet" if alert.mail_due_at else "no"
