"""The page that starts a run: a form made from the input schema, or the input as JSON."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from orchestrator.admin.run_forms import FieldRunForm, RawRunForm, RunForm
from orchestrator.admin.versions import VersionPages
from orchestrator.core.input_example import example_input
from orchestrator.core.input_form import Group, defaults_of, form_of, values_in
from orchestrator.models import Run, Workflow
from orchestrator.services.errors import InputInvalidError
from orchestrator.services.plan_prices import CapTooSmallError
from orchestrator.services.runs import start_run
from tenants.admin_base import may
from tenants.errors import TenantSuspendedError
from tenants.roles import Scope

if TYPE_CHECKING:
    _Base = VersionPages
else:
    _Base = object

# The buttons that show the same input in the other form.
TO_JSON, TO_FIELDS = "_json", "_fields"
# The page's address with this in it has the fields filled in with the examples of the schema.
WITH_EXAMPLE = "example"


class RunPage(_Base):
    """Where a workflow's admin starts runs."""

    def run(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        workflow: Workflow = self.object_or_404(request, object_id)
        if not may(request, Scope.RUNS_WRITE):
            raise PermissionDenied
        version = workflow.current_version
        schema = (version.spec.get("inputs") if version else None) or {}
        group = form_of(schema)
        form = _asked(request, schema, group)
        if version and request.method == "POST" and form.is_valid():
            if request.POST.keys() & {TO_JSON, TO_FIELDS}:
                form = _switched(form, group)
            elif run := _start(workflow, form):
                return HttpResponseRedirect(reverse("admin:orchestrator_run_change", args=[run.pk]))
        context = {
            "workflow": workflow,
            "version": version,
            "schema": schema,
            "form": form,
            "has_fields": group is not None,
        }
        return self.shown_page(request, "run_form.html", f"Run {workflow.name}", context)


def _asked(request: HttpRequest, schema: Any, group: Group | None) -> RunForm:
    if request.method == "POST":
        if group is None or "input" in request.POST:
            return RawRunForm(request.POST)
        return FieldRunForm(group, request.POST)
    example = example_input(schema)
    if group is None:
        return RawRunForm(initial={"input": example})
    shown = values_in(group, example) if WITH_EXAMPLE in request.GET else None
    return FieldRunForm.holding(group, defaults_of(group) if shown is None else shown)


def _switched(form: RunForm, group: Group | None) -> RunForm:
    """The other form with the same input; the same one where the fields would lose some of it."""
    given = form.value()
    if isinstance(form, FieldRunForm):
        return RawRunForm(initial={"input": given, **form.typed()})
    values = values_in(group, given) if group else None
    if group is None or values is None:
        form.add_error("input", "The form has no fields for some of this; start the run from here.")
        return form
    return FieldRunForm.holding(group, values, **form.typed())


def _start(workflow: Workflow, form: RunForm) -> Run | None:
    try:
        return start_run(workflow=workflow, input=form.value(), **form.options())
    except InputInvalidError as error:
        form.show(error.problems)
    except CapTooSmallError as error:
        form.add_error("max_cost_nano", str(error))
    except TenantSuspendedError as error:
        form.add_error(None, str(error))
    return None
