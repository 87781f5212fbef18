"""Batches of runs, to look at and to cancel."""

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern

from orchestrator.admin.started import StartedAdmin
from orchestrator.core.batch import has_ended
from orchestrator.models import RunBatch
from orchestrator.selectors.batches import with_figures
from orchestrator.selectors.runs import runs_of, with_reasons
from orchestrator.services.batches import BatchStateError, cancel_batch
from tenants.admin_base import may, principal_of
from tenants.roles import Scope

RUNS_PAGE = 50


@admin.register(RunBatch)
class RunBatchAdmin(StartedAdmin):
    view_scope = Scope.RUNS_READ
    list_display = ("title", "size", "project", "created", "by")
    list_filter = ("project", "created_at")
    list_select_related = ("project",)
    search_fields = ("name", "id")
    ordering = ("-id",)

    def get_custom_pages(self) -> list[URLPattern]:
        return [self.page("cancel/", self.cancel)]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        batch: RunBatch = self.object_or_404(request, object_id)
        (shown,) = with_figures([batch])
        runs = runs_of(principal_of(request)).filter(batch=batch).order_by("id")
        page = Paginator(runs, RUNS_PAGE).get_page(request.GET.get("p"))
        page.object_list = with_reasons(page.object_list)
        is_live = not has_ended(shown.status)  # type: ignore[attr-defined]  # a figure
        context = {
            **self.admin_site.each_context(request),
            "title": str(batch) if batch.name else "Batch of runs",
            "opts": self.opts,
            "batch": shown,
            "page": page,
            "may_cancel": is_live and may(request, Scope.RUNS_WRITE),
        }
        return TemplateResponse(request, "admin/orchestrator/run_batch/page.html", context)

    def cancel(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        batch: RunBatch = self.object_or_404(request, object_id)
        if not may(request, Scope.RUNS_WRITE):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        try:
            cancel_batch(batch)
        except BatchStateError as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self.message_user(request, "Its runs are being cancelled.", messages.SUCCESS)
        return HttpResponseRedirect(self.url_of(batch))

    @admin.display(description="Batch", ordering="name")
    def title(self, batch: RunBatch) -> str:
        return str(batch)
