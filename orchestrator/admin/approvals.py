"""The inbox of questions that runs put to people."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern

from orchestrator.admin.input_forms import FieldInputForm, RawInputForm
from orchestrator.core.input_form import assembled, defaults_of, form_of
from orchestrator.core.problems import Problem
from orchestrator.models import Approval
from orchestrator.selectors.approvals import approvals_of, inbox
from orchestrator.services.approvals import (
    ApprovalClosedError,
    FormInvalidError,
    NotApproverError,
    decide,
    refusal,
)
from tenants.admin_base import TenantModelAdmin, may, principal_of
from tenants.admin_fields import JsonField
from tenants.errors import TenantSuspendedError
from tenants.roles import Scope

WAITING_PAGE = 10
ALL_PAGE = 25
_SAID: Final = {"approve": "Approved.", "reject": "Rejected."}


class FieldAnswerForm(FieldInputForm):
    """A field for each property of the form's schema."""

    def answer(self, decision: str) -> Any:
        """What was filled in; for a rejection None, if nothing was touched."""
        given = self.value()
        untouched = assembled(self.group, defaults_of(self.group))
        return None if decision == "reject" and given == untouched else given


class RawAnswerForm(RawInputForm):
    """For schemas that no field fits: the answer as JSON."""

    input = JsonField(rows=6, kind=None, required=False, label="Your answer (JSON)")

    def answer(self, decision: str) -> Any:
        return None if self.cleaned_data["input"] is None else self.value()


AnswerForm = FieldAnswerForm | RawAnswerForm


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """An approval as a page shows it: with its form, or with the reason why there is none."""

    approval: Approval
    form: AnswerForm | None = None
    refused: str = ""


@admin.register(Approval)
class ApprovalAdmin(TenantModelAdmin):
    """Looked at by whoever may read runs; decided by those whom the workflow names."""

    view_scope = Scope.RUNS_READ

    def get_queryset(self, request: HttpRequest) -> QuerySet[Approval]:
        rows: QuerySet[Approval] = approvals_of(principal_of(request))
        return rows

    def get_custom_pages(self) -> list[URLPattern]:
        return [self.page("decide/", self.decide)]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        waiting = Paginator(inbox(principal_of(request)), WAITING_PAGE)
        everything = self.get_queryset(request).defer("show", "form_schema", "form")
        context = {
            "waiting": waiting.count,
            "cards": [_card(request, row) for row in waiting.get_page(1)],
            "page": Paginator(everything, ALL_PAGE).get_page(request.GET.get("p")),
        }
        # Without `opts`, which would lead from this page to this page.
        return self._shown(request, "inbox.html", "Approvals", {**context, "opts": None})

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        return self._one(request, _card(request, self.object_or_404(request, object_id)))

    def decide(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """Press one of the two buttons."""
        approval: Approval = self.object_or_404(request, object_id)
        if not may(request, Scope.APPROVALS_WRITE):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        form = _form_of(approval, request)
        decision = request.POST.get("decision", "")
        if decision not in _SAID or (form and not form.is_valid()):
            return self._one(request, replace(_card(request, approval), form=form))
        try:
            answer = form.answer(decision) if form else None
            decide(approval, principal=principal_of(request), decision=decision, form=answer)
        except FormInvalidError as error:
            if form:
                form.show(_as_of_input(error.problems))
            return self._one(request, replace(_card(request, approval), form=form))
        except (ApprovalClosedError, NotApproverError, TenantSuspendedError) as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(self.url_of(approval))
        self.message_user(request, _SAID[decision], messages.SUCCESS)
        return HttpResponseRedirect(self._list_url())

    def _one(self, request: HttpRequest, card: Card) -> HttpResponse:
        title = f"{card.approval.step} of {card.approval.run.workflow.name}"
        return self._shown(request, "page.html", title, {"card": card, "object": card.approval})

    def _shown(
        self, request: HttpRequest, template: str, title: str, context: dict[str, Any]
    ) -> HttpResponse:
        shared = {**self.admin_site.each_context(request), "title": title, "opts": self.opts}
        name = f"admin/orchestrator/approval/{template}"
        return TemplateResponse(request, name, {**shared, **context})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


def _card(request: HttpRequest, approval: Approval) -> Card:
    refused = refusal(approval, principal_of(request))
    if refused or not may(request, Scope.APPROVALS_WRITE):
        return Card(approval=approval, refused=str(refused or "Your role only looks."))
    return Card(approval=approval, form=_form_of(approval, None))


def _form_of(approval: Approval, request: HttpRequest | None) -> AnswerForm | None:
    """The form as it was sent, or untouched; None where nothing is to be filled in."""
    schema = approval.form_schema
    if schema is None:
        return None
    group = form_of(schema)
    # Several approvals stand on one page.
    prefix, data = approval.pk.hex, request.POST if request else None
    if group is None:
        return RawAnswerForm(data, prefix=prefix)
    if data is not None:
        return FieldAnswerForm(group, data, prefix=prefix)
    form = FieldAnswerForm.holding(group, defaults_of(group))
    form.prefix = prefix
    return form


def _as_of_input(problems: Sequence[Problem]) -> list[Problem]:
    return [replace(one, loc="/input" + one.loc.removeprefix("/form")) for one in problems]
