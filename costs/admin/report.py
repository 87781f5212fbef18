"""The page 'Costs': what was spent by day and group, and how the month will end."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.core.validators import MaxValueValidator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminSingleDateWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from costs.core.errors import TooManyGroupsError
from costs.core.money import usd_from_nano
from costs.core.periods import day_start, month_start, zone_or_none
from costs.models import CostEntry
from costs.selectors.chart import Chart, chart, label_of
from costs.selectors.outlook import outlook
from costs.selectors.reports import Group, Summary, lines_of_all, lines_of_tenant, summary
from tenants.admin_base import is_operator, principal_of
from tenants.kernel.clock import now

LONGEST_DAYS: Final = 366
_MOST_CELLS: Final = 200_000
_GROUPS: Final = (
    Group.PROJECT,
    Group.WORKFLOW,
    Group.AGENT,
    Group.MODEL,
    Group.PROVIDER,
    Group.ROLE,
)
_DATE: Final = {"type": "date"}


class ReportForm(forms.Form):
    """Both days are of the time zone, and part of the report."""

    group = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    first = forms.DateField(label="From", widget=UnfoldAdminSingleDateWidget(_DATE))
    last = forms.DateField(
        label="Through",
        widget=UnfoldAdminSingleDateWidget(_DATE),
        # A report ends with the beginning of the next day.
        validators=[MaxValueValidator(date.max - timedelta(days=1))],
    )
    tz = forms.CharField(label="Time zone", max_length=64, widget=UnfoldAdminTextInputWidget)
    all_tenants = forms.BooleanField(required=False, widget=UnfoldBooleanWidget)

    def __init__(self, *args: Any, is_operator: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        groups = (*_GROUPS, Group.TENANT) if is_operator else _GROUPS
        self.fields["group"].choices = [(group, group.capitalize()) for group in groups]  # type: ignore[attr-defined]
        if not is_operator:
            del self.fields["all_tenants"]

    def clean_tz(self) -> Any:
        zone = zone_or_none(self.cleaned_data["tz"])
        if zone is None:
            raise forms.ValidationError("There is no such time zone; write one as Europe/Berlin.")
        return zone

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        first, last = cleaned.get("first"), cleaned.get("last")
        if first and last and not 0 <= (last - first).days < LONGEST_DAYS:
            self.add_error("last", f"Choose up to {LONGEST_DAYS} days, from the first to the last.")
        return cleaned


def report_page(request: HttpRequest, context: Mapping[str, Any]) -> HttpResponse:
    today = now().date()
    usual = {"group": Group.MODEL, "first": month_start(today), "last": today, "tz": "UTC"}
    given = {name: request.GET[name] for name in request.GET if name != "p"}
    form = ReportForm({**usual, **given}, is_operator=is_operator(request))
    found = _found(request, form.cleaned_data) if form.is_valid() else {}
    spans = _spans(today, given)
    page = {**context, "title": "Costs", "form": form, "spans": spans, **found}
    return TemplateResponse(request, "admin/costs/report.html", page)


def _spans(today: date, given: Mapping[str, str]) -> list[dict[str, Any]]:
    """The spans that people ask for most, as links that keep the rest of the question."""
    this_month = month_start(today)
    last_month = month_start(this_month - timedelta(days=1))
    spans = {
        "This month": (this_month, today),
        "Last month": (last_month, this_month - timedelta(days=1)),
        "Last 7 days": (today - timedelta(days=6), today),
        "Last 30 days": (today - timedelta(days=29), today),
        "Last 90 days": (today - timedelta(days=89), today),
    }
    asked = (given.get("first", f"{this_month}"), given.get("last", f"{today}"))
    return [
        {
            "name": name,
            "query": urlencode({**given, "first": first, "last": last}),
            "is_shown": asked == (f"{first}", f"{last}"),
        }
        for name, (first, last) in spans.items()
    ]


def _found(request: HttpRequest, asked: Mapping[str, Any]) -> dict[str, Any]:
    zone, group = asked["tz"], Group(asked["group"])
    of_all = bool(asked.get("all_tenants"))
    lines = _lines(request, of_all=of_all)
    end: date = asked["last"] + timedelta(days=1)
    span = {"since": day_start(asked["first"], zone), "until": day_start(end, zone), "zone": zone}
    try:
        totals = summary(lines, groups=[group], **span)
        by_day = summary(lines, groups=[Group.DAY, group], most=_MOST_CELLS, **span)
    except TooManyGroupsError as error:
        return {"refused": str(error).capitalize()}
    shown = chart(by_day, group=group)
    return {
        "group": group,
        "zone": zone.key,
        "chart": shown,
        "chart_data": _chart_data(shown),
        "totals": totals,
        "rows": _rows(totals, group),
        "outlook": outlook(lines, moment=now(), zone=zone),
        "of_all": of_all,
        "csv": _csv_address(asked, end=end, of_all=of_all),
    }


def _lines(request: HttpRequest, *, of_all: bool) -> QuerySet[CostEntry]:
    # The form offers it to operators alone, and drops it from anybody else's query.
    return lines_of_all() if of_all else lines_of_tenant(principal_of(request).project_id)


def _rows(totals: Summary, group: Group) -> list[dict[str, Any]]:
    whole = totals.total.cost
    return [
        {
            "label": label_of(row, group),
            "figures": row.figures,
            "share": row.figures.cost / whole if whole > 0 else 0,
        }
        for row in totals.rows
    ]


def _chart_data(shown: Chart) -> dict[str, Any]:
    return {
        "labels": [f"{row.day:%b} {row.day.day}" for row in shown.days],
        "series": [
            {
                "label": each.label,
                "number": each.number,
                "values": [float(usd_from_nano(cost)) for cost in each.costs],
            }
            for each in shown.series
        ],
    }


def _csv_address(asked: Mapping[str, Any], *, end: date, of_all: bool) -> str:
    query = {
        "from": asked["first"],
        "to": end,
        "tz": asked["tz"].key,
        "group_by": f"{Group.DAY},{asked['group']}",
        "tenants": "all" if of_all else "own",
        "format": "csv",
    }
    return f"{reverse('costs-summary')}?{urlencode(query)}"
