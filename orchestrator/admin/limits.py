"""Limits with their live usage, edited in place."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model, QuerySet
from django.forms.models import construct_instance
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse

from agents_app.admin_choices import known_models, provider_choices
from agents_app.models import Agent
from orchestrator.core.problems import Problem
from orchestrator.limits.scopes import forget
from orchestrator.models import AgentRun, PlatformRateLimit, RateLimit
from orchestrator.models.limits import UNIT_LABELS, PlatformScope
from orchestrator.selectors.limits import Bucket, buckets_for, buckets_of_rows
from orchestrator.selectors.waiting import pauses_of, tenant_standing
from orchestrator.services.limits import platform_limit_problems, rate_limit_problems
from tenants.admin_base import OperatorModelAdmin, TenantModelAdmin, principal_of
from tenants.admin_fields import SuggestInput, choice_field
from tenants.models import Tenant
from tenants.roles import Scope

# Of those who wait for a limit so many are named.
SHOWN_WAITERS = 3
# Of a line so many are asked which of its limits holds them.
LOOKED_AT = 500


class LimitForm(forms.ModelForm):  # type: ignore[type-arg]
    """Says what is wrong at its field, or at the limit where the field is not shown."""

    problems_of: ClassVar[Callable[[Any], list[Problem]]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "provider" in self.fields:
            self.fields["provider"] = choice_field(
                provider_choices(),
                current=self.instance.provider,
                empty="All together",
                help_text="Which calls count.",
            )
            self.fields["model"].widget = SuggestInput(known_models())

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for name in {"provider", "agent"} & set(self.fields):
            cleaned[name] = cleaned.get(name) or ""
        if not self.errors:
            # Before the constraints are looked at, which name no field.
            construct_instance(self, self.instance, self._meta.fields, self._meta.exclude)
            for problem in type(self).problems_of(self.instance):
                name = problem.loc.strip("/")
                self.add_error(name if name in self.fields else "limit", problem.message)
        return cleaned


class RateLimitForm(LimitForm):
    problems_of = rate_limit_problems

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "agent" in self.fields:
            slugs = {slug: slug for slug in Agent.objects.values_list("slug", flat=True)}
            self.fields["agent"] = choice_field(slugs, current=self.instance.agent, empty="None")


class PlatformRateLimitForm(LimitForm):
    problems_of = platform_limit_problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A limit as the page shows it; with a form where it can be changed here."""

    bucket: Bucket
    waiters: Sequence[Any]
    waiting: int
    row: Any = None
    form: LimitForm | None = None
    is_of_each: bool = False
    of_tenant: bool = False  # as one tenant is shown it

    @property
    def fill(self) -> str:
        if self.bucket.paused_seconds > 0:
            return "queued"
        return "waiting" if self.bucket.share >= 0.9 else "running"

    @property
    def width(self) -> float:
        return 100 * self.bucket.share

    @property
    def change_url(self) -> str:
        return reverse(
            f"admin:{self.row._meta.label_lower.replace('.', '_')}_change", args=[self.row.pk]
        )

    @property
    def urgency(self) -> tuple[bool, int, float]:
        return self.bucket.paused_seconds > 0, self.waiting, self.bucket.share


class LimitAdmin(TenantModelAdmin):
    """A page of cards in place of a list; each card's amounts are a form of their own."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        sent = None
        if request.method == "POST":
            sent = self._sent(request)
            if sent.is_valid():
                self.save_model(request, sent.instance, sent, change=True)
                pk = sent.instance.pk
                return HttpResponseRedirect(f"{request.path}?saved={pk}#limit-{pk}")
        context = {
            **self.admin_site.each_context(request),
            "title": self.opts.verbose_name_plural.capitalize(),
            "saved": request.GET.get("saved"),
            "has_add_permission": self.has_add_permission(request),
            "add_url": reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_add"),
            **self.cards(request, sent),
        }
        status = 200 if sent is None else 400
        template = "admin/orchestrator/rate_limit/page.html"
        return TemplateResponse(request, template, context, status=status)

    def cards(self, request: HttpRequest, sent: LimitForm | None) -> dict[str, Any]:
        raise NotImplementedError

    def amounts(self, row: Any, data: Any = None) -> LimitForm:
        """The form of a card."""
        kind: Any = forms.modelform_factory(
            self.model, form=self.form, fields=("limit", "capacity")
        )
        form: LimitForm = kind(data, instance=row, prefix=str(row.pk))
        labels = {"limit": _per(row), "capacity": "Capacity"}
        for name, label in labels.items():
            form.fields[name].widget = forms.NumberInput({"class": "m-input", "min": 1})
            form.fields[name].label = label
            form.fields[name].help_text = ""
        # What it gathers where nothing else is said.
        form.fields["capacity"].widget.attrs["placeholder"] = f"{row.limit}"
        return form

    def _sent(self, request: HttpRequest) -> LimitForm:
        if not self.may_edit(request):
            raise PermissionDenied
        row = self.get_object(request, request.POST.get("row", ""))
        if row is None:
            # Somebody deleted it meanwhile.
            row = get_object_or_404(self.get_queryset(request).none())
        return self.amounts(row, request.POST)

    def form_of(self, request: HttpRequest, row: Any, sent: LimitForm | None) -> LimitForm | None:
        if not self.may_edit(request):
            return None
        return sent if sent is not None and sent.instance.pk == row.pk else self.amounts(row)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        transaction.on_commit(forget)

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        super().delete_model(request, obj)
        transaction.on_commit(forget)


_AMOUNTS = (
    "What is limited",
    {"fields": (("unit", "period"), ("limit", "capacity"), ("counting", "time_zone"))},
)
_CALLS = ("Only some calls", {"fields": (("provider", "model"),)})


@admin.register(RateLimit)
class RateLimitAdmin(LimitAdmin):
    view_scope = Scope.WORKFLOWS_READ
    edit_scope = Scope.ADMIN
    form = RateLimitForm
    fieldsets = (
        ("Whose calls", {"fields": ("scope", ("project", "workflow"), ("agent", "credential"))}),
        _AMOUNTS,
        _CALLS,
    )

    def cards(self, request: HttpRequest, sent: LimitForm | None) -> dict[str, Any]:
        rows = {row.pk: row for row in self.get_queryset(request)}
        principal = principal_of(request)
        buckets = buckets_for(principal)
        runs = _agent_runs(buckets)
        cards = []
        for bucket in buckets:
            row = rows.get(bucket.limit.row_id)
            waiting = [w for w in bucket.waiting if _is_held_by(bucket, runs.get(w.waiter))]
            named = [(runs[w.waiter], w) for w in waiting if w.waiter in runs]
            card = Card(
                bucket=bucket,
                waiters=named[:SHOWN_WAITERS],
                waiting=len(waiting),
                row=row,
                form=self.form_of(request, row, sent) if row else None,
                of_tenant=True,
            )
            cards.append(card)
        cards.sort(key=lambda card: card.urgency, reverse=True)
        return {
            "own": [card for card in cards if card.row],
            "operators": [card for card in cards if not card.row],
            "pauses": pauses_of(tenant_standing(principal)),
        }


@admin.register(PlatformRateLimit)
class PlatformRateLimitAdmin(LimitAdmin, OperatorModelAdmin):
    form = PlatformRateLimitForm
    fieldsets = (
        ("Whose calls", {"fields": ("scope", "for_tenant")}),
        _AMOUNTS,
        _CALLS,
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # Of all tenants, whichever the operator has gone to.
        return super().get_queryset(request).using("system")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "for_tenant":
            kwargs["queryset"] = Tenant.objects.using("system").order_by("name")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def cards(self, request: HttpRequest, sent: LimitForm | None) -> dict[str, Any]:
        rows = list(PlatformRateLimit.objects.using("system").select_related("for_tenant"))
        buckets = buckets_of_rows(rows, tenant_id=None)
        names = _tenant_names(buckets.values())
        cards = [
            Card(
                bucket=buckets[row.pk],
                waiters=_by_tenant(buckets[row.pk], names),
                waiting=len(buckets[row.pk].waiting),
                row=row,
                form=self.form_of(request, row, sent),
                is_of_each=row.scope == PlatformScope.TENANT and row.for_tenant_id is None,
            )
            for row in rows
        ]
        return {"own": sorted(cards, key=lambda card: card.urgency, reverse=True)}


def _per(row: Any) -> str:
    unit = UNIT_LABELS[row.unit].capitalize()
    return f"{unit} per {row.period}" if row.period else f"{unit} requests"


def _agent_runs(buckets: Sequence[Bucket]) -> dict[str, AgentRun]:
    """The agent runs among those who wait, by their ids as text."""
    ids = set()
    for waiter in (w for bucket in buckets for w in bucket.waiting[:LOOKED_AT]):
        # Redis may hold anything.
        with suppress(ValueError):
            ids.add(UUID(waiter.waiter))
    found = AgentRun.objects.filter(pk__in=ids)
    return {
        str(row.pk): row for row in found.only("id", "run_id", "step", "waits_on", "finished_at")
    }


def _is_held_by(bucket: Bucket, agent_run: AgentRun | None) -> bool:
    """Limits on the same calls share a line: the agent run knows which of them it was told of.

    One that has ended may still stand in the line.
    """
    if agent_run is None:
        return True
    return agent_run.finished_at is None and agent_run.waits_on in ("", bucket.gate)


def _tenant_names(buckets: Any) -> dict[str, str]:
    ids = {w.tenant for bucket in buckets for w in bucket.waiting}
    rows = Tenant.objects.using("system").filter(pk__in=ids)
    return {str(tenant.pk): tenant.name for tenant in rows}


def _by_tenant(bucket: Bucket, names: dict[str, str]) -> list[tuple[str, int]]:
    return Counter(names.get(w.tenant, w.tenant) for w in bucket.waiting).most_common()
