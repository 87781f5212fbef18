import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from unfold.views import ChangeList

from costs.core.money import usd_from_nano
from orchestrator.admin.replay import ReplayPages
from orchestrator.admin.started import StartedAdmin
from orchestrator.core.state import TERMINAL_RUN, RunStatus
from orchestrator.models import Run
from orchestrator.selectors.approvals import open_approvals_of
from orchestrator.selectors.budgets import refusing_budgets
from orchestrator.selectors.exchange import latest_messages_of
from orchestrator.selectors.metrics import run_metrics
from orchestrator.selectors.run_page import events_of, ledger_of, run_page
from orchestrator.selectors.runs import runs_of, with_reasons
from orchestrator.services.control import (
    RunStateError,
    cancel_run,
    pause_run,
    possible_actions,
    refusal_to_resume,
    resume_run,
    retry_run,
)
from orchestrator.templatetags.muster import as_text, badge, duration, quoted, usd
from tenants.admin_base import may, principal_of
from tenants.errors import TenantSuspendedError
from tenants.kernel.clock import now
from tenants.roles import Scope

APPROVALS_SHOWN = 10
WHY_SHOWN = 120


class RunList(ChangeList):  # type: ignore[misc]
    """A page of runs, each with the reason why it is as it is."""

    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = with_reasons(self.result_list)


@admin.register(Run)
class RunAdmin(ReplayPages, StartedAdmin):
    """Runs are history: looked at and steered here, changed by the engine alone."""

    view_scope = Scope.RUNS_READ
    list_display = ("status_shown", "workflow_shown", "why", "cost_shown", "took", "created", "by")
    list_display_links = ("workflow_shown",)
    list_filter = ("status", "workflow", "project", "created_at")
    list_select_related = ("workflow", "version", "project")
    search_fields = ("workflow__name", "id")
    date_hierarchy = "created_at"
    ordering = ("-id",)

    def get_changelist(self, request: HttpRequest, **_: Any) -> type[RunList]:
        return RunList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        rows: QuerySet[Run] = runs_of(principal_of(request))
        return rows

    def get_custom_pages(self) -> list[URLPattern]:
        return [
            self.page("live/", self.live),
            self.page("cancel/", self.cancel),
            self.page("pause/", self.pause),
            self.page("resume/", self.resume),
            self.page("retry/", self.retry),
            self.page("replay/", self.replay),
            self.page("input/", self.input),
            self.page("output/", self.output),
            self.page("ledger/", self.ledger),
            self.page("metrics/", self.metrics),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        run = self._whole_run_or_404(request, object_id)
        context = {
            **self.admin_site.each_context(request),
            **self._context(request, run),
            "title": f"{run.workflow.name} version {run.version.number}",
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/orchestrator/run/page.html", context)

    def live(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """The moving parts of the page alone, for a page that asks again while the run goes on."""
        run = self._whole_run_or_404(request, object_id)
        context = self._context(request, run)
        return TemplateResponse(request, "admin/orchestrator/run/live.html", context)

    def cancel(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """Asks first."""
        run = self._steered_run_or_404(request, object_id)
        if request.method == "POST":
            return self._change(request, run, cancel_run, "The run is being cancelled.")
        context = {
            **self.admin_site.each_context(request),
            "title": f"Cancel this run of {run.workflow.name}?",
            "opts": self.opts,
            "run": run,
            "is_possible": "cancel" in possible_actions(run),
        }
        return TemplateResponse(request, "admin/orchestrator/run/cancel.html", context)

    def pause(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        run = self._steered_run_or_404(request, object_id)
        told = "The run is paused. What a worker has begun goes on to its end."
        return self._change(request, run, pause_run, told)

    def resume(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        run = self._steered_run_or_404(request, object_id)
        by = principal_of(request)
        if refusal_to_resume(run, by=by):
            raise PermissionDenied
        return self._change(request, run, partial(resume_run, by=by), "The run goes on.")

    def retry(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        run = self._steered_run_or_404(request, object_id)
        told = "The run is taken up again. What had completed is kept."
        return self._change(request, run, retry_run, told)

    def _steered_run_or_404(self, request: HttpRequest, object_id: UUID) -> Run:
        """The run, for those who may steer it."""
        run = self._whole_run_or_404(request, object_id)
        if not may(request, Scope.RUNS_WRITE):
            raise PermissionDenied
        return run

    def _change(
        self, request: HttpRequest, run: Run, change: Callable[[Run], None], told: str
    ) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        try:
            change(run)
        except (RunStateError, TenantSuspendedError) as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self.message_user(request, told, messages.SUCCESS)
        return HttpResponseRedirect(self.url_of(run))

    def input(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        run = self._whole_run_or_404(request, object_id)
        return _download(run.input, f"input-{run.pk}", as_markdown=False)

    def output(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        run = self._whole_run_or_404(request, object_id)
        return _download(run.output, f"output-{run.pk}", as_markdown="md" in request.GET)

    def ledger(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        run = self._whole_run_or_404(request, object_id)
        lines = [
            {
                "at": line.at.isoformat(),
                "kind": line.kind,
                "amount_usd": str(usd_from_nano(line.amount_nano)),
                "step": line.step,
                "attempt": line.attempt,
                "provider": line.provider,
                "model": line.model,
                "input_tokens": line.input_tokens,
                "output_tokens": line.output_tokens,
                "estimated": line.estimated,
            }
            for line in ledger_of(run)
        ]
        return _download(lines, f"ledger-{run.pk}", as_markdown=False)

    def metrics(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        run = self._whole_run_or_404(request, object_id)
        return _download(run_metrics(run), f"metrics-{run.pk}", as_markdown=False)

    def _whole_run_or_404(self, request: HttpRequest, object_id: UUID | str) -> Run:
        found: Run = self.object_or_404(request, object_id)
        rows = Run.objects.select_related("workflow", "version", "project")
        run = rows.defer("version__plan").filter(pk=found.pk).first()
        if run is None:
            raise Http404
        return run

    def _actions(self, request: HttpRequest, run: Run) -> Sequence[str]:
        """What this person may do with the run now."""
        if not may(request, Scope.RUNS_WRITE):
            return ()
        actions = possible_actions(run)
        if "resume" in actions and refusal_to_resume(run, by=principal_of(request)):
            return [each for each in actions if each != "resume"]
        return actions

    def _context(self, request: HttpRequest, run: Run) -> dict[str, Any]:
        page = run_page(
            run,
            step=request.GET.get("step"),
            page=request.GET.get("p"),
            status=request.GET.get("status"),
        )
        return {
            "run": run,
            "page": page,
            "actions": self._actions(request, run),
            "may_replay": run.status in TERMINAL_RUN and may(request, Scope.RUNS_WRITE),
            "approvals": open_approvals_of(run)[:APPROVALS_SHOWN],
            "refusing": refusing_budgets(run) if run.status == RunStatus.BUDGET_EXCEEDED else (),
            "agent_messages": latest_messages_of(run),
            "events": events_of(run),
            "ledger": ledger_of(run)[:200],
            "status_filter": request.GET.get("status", ""),
            "page_query": _query_without_page(request),
        }

    @admin.display(description="State", ordering="status")
    def status_shown(self, run: Run) -> SafeString:
        return badge(run.status)

    @admin.display(description="Workflow", ordering="workflow__name")
    def workflow_shown(self, run: Run) -> SafeString:
        return format_html("{} <small>version {}</small>", run.workflow.name, run.version.number)

    @admin.display(description="Why")
    def why(self, run: Run) -> SafeString:
        # In one element, since a narrow window lays the cell's parts out beside each other.
        reason: str = run.reason  # type: ignore[attr-defined]  # of the list
        return format_html("<span>{}</span>", quoted(Truncator(reason).chars(WHY_SHOWN)))

    @admin.display(description="Cost")
    def cost_shown(self, run: Run) -> str:
        return usd(run.cost)  # type: ignore[attr-defined]  # annotated

    @admin.display(description="Took")
    def took(self, run: Run) -> SafeString:
        took = duration(_seconds(run.started_at, run.finished_at or now()))
        return format_html('<span class="m-time">{}</span>', took)


def _query_without_page(request: HttpRequest) -> str:
    query = request.GET.copy()
    query.pop("p", None)
    return f"{query.urlencode()}&" if query else ""


def _seconds(begin: datetime | None, end: datetime) -> float | None:
    return (end - begin).total_seconds() if begin else None


def _download(value: Any, name: str, *, as_markdown: bool) -> HttpResponse:
    if as_markdown:
        text, kind, ending = _as_markdown(value), "text/markdown", "md"
    else:
        text = json.dumps(value, ensure_ascii=False, indent=2)
        kind, ending = "application/json", "json"
    response = HttpResponse(text, content_type=f"{kind}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.{ending}"'
    return response


def _as_markdown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "\n\n".join(f"## {key}\n\n{_part(part)}" for key, part in value.items())
    return _part(value)


def _part(value: Any) -> str:
    return value if isinstance(value, str) else f"```json\n{as_text(value)}\n```"
