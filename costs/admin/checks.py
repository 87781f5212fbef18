"""What the nightly comparison of the books found, for operators."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import F, Model, QuerySet
from django.db.models.functions import Abs
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString

from costs.models import LedgerCheck
from tenants.admin_base import OperatorModelAdmin
from tenants.badges import state_badge


@admin.register(LedgerCheck)
class LedgerCheckAdmin(OperatorModelAdmin):
    """Read-only: what was found stays as it was found."""

    list_display = ("started_at", "verdict", "by", "lines", "calls", "agent_runs", "runs", "took")
    ordering = ("-id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerCheck]:
        return LedgerCheck.objects.using("system").all()

    def may_edit(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @admin.display(description="Verdict", ordering="difference_count")
    def verdict(self, check: LedgerCheck) -> SafeString:
        if not check.difference_count:
            return state_badge("completed", "\N{CHECK MARK}", "agrees")
        count = check.difference_count
        word = f"{count:,} difference{'' if count == 1 else 's'}"
        return state_badge("failed", "\N{BALLOT X}", word)

    @admin.display(description="Made")
    def by(self, check: LedgerCheck) -> str:
        return f"for {check.night:%d %b}" if check.night else "by hand"

    @admin.display(description="Took")
    def took(self, check: LedgerCheck) -> str:
        took: timedelta = check.finished_at - check.started_at
        return f"{took.total_seconds():.1f} s"

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        check: LedgerCheck = self.object_or_404(request, object_id)
        largest = Abs(F("expected_nano") - F("found_nano")).desc()
        context = {
            **self.admin_site.each_context(request),
            "title": f"Ledger check of {check}",
            "opts": self.opts,
            "check": check,
            "verdict": self.verdict(check),
            "took": self.took(check),
            "differences": check.differences.select_related("tenant").order_by("rule", largest),
        }
        return TemplateResponse(request, "admin/costs/ledger_check.html", context)
