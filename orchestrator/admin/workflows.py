from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from unfold.admin import StackedInline

from orchestrator.admin.blueprints import BlueprintPages
from orchestrator.admin.prices import price_card
from orchestrator.admin.reports import Shown, show_at_fields
from orchestrator.admin.run_input import RunPage
from orchestrator.admin.versions import VersionPages, download, graph_context
from orchestrator.admin.workflow_forms import StepFormSet, WorkflowForm, step_form
from orchestrator.admin.workflow_import import ImportForm, loaded
from orchestrator.core.errors import BundleInvalidError, WorkflowInvalidError
from orchestrator.core.problems import Problem
from orchestrator.core.yaml_io import dump_text
from orchestrator.models import Step, Workflow
from orchestrator.services.bundle_export import export_bundle
from orchestrator.services.deletion import delete_workflow
from orchestrator.services.drafts import draft_spec
from orchestrator.services.workflows import publish, validate_spec
from tenants.admin_base import TenantModelAdmin, may
from tenants.models import Project
from tenants.roles import Scope

MAX_FORM_STEPS = 60
VERSIONS_SHOWN = 20


class StepInline(StackedInline):  # type: ignore[misc]
    model = Step
    formset = StepFormSet
    ordering_field = "position"
    hide_title = False
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("name", "position"),
                    "needs",
                    "agent_source",
                    ("agent_type", "agent_role"),
                    "agent_more",
                    "prompt",
                )
            },
        ),
        (
            "System prompt, model, tools and limits",
            {
                "fields": (
                    "system",
                    ("provider", "model"),
                    "parameters",
                    "tools",
                    "output_schema",
                    ("timeout", "priority"),
                ),
                "classes": ("collapse",),
            },
        ),
        ("Advanced", {"fields": ("description", "settings"), "classes": ("collapse",)}),
    )
    verbose_name = "step"

    def get_formset(self, request: HttpRequest, obj: Workflow | None = None, **kwargs: Any) -> Any:
        kwargs["form"] = step_form(obj)
        return super().get_formset(request, obj, **kwargs)

    def get_extra(self, request: HttpRequest, obj: Workflow | None = None, **kwargs: Any) -> int:
        return 0 if obj and obj.steps.exists() else 1

    # Who may change the workflow may change its steps.
    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, Scope.WORKFLOWS_READ)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, Scope.WORKFLOWS_WRITE)

    has_add_permission = has_delete_permission = has_change_permission


@admin.register(Workflow)
class WorkflowAdmin(RunPage, BlueprintPages, VersionPages, TenantModelAdmin):
    view_scope = Scope.WORKFLOWS_READ
    edit_scope = Scope.WORKFLOWS_WRITE
    form = WorkflowForm
    inlines = (StepInline,)
    list_display = ("name", "project", "module", "published", "description", "updated_at")
    list_filter = ("project", "module", "strategy")
    list_select_related = ("project", "current_version")
    search_fields = ("name", "description", "module")
    is_fullwidth = True
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("name", "project"),
                    "description",
                    ("strategy", "max_parallel"),
                    "inputs",
                )
            },
        ),
        (
            "Advanced",
            {"fields": ("module", "output", "defaults", "settings"), "classes": ("collapse",)},
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workflow]:
        rows: QuerySet[Workflow] = super().get_queryset(request)
        return rows.defer("current_version__spec", "current_version__plan")

    def get_custom_pages(self) -> list[URLPattern]:
        load = path(
            "import/", self.admin_site.admin_view(self.load), name="orchestrator_workflow_load"
        )
        return [
            load,
            *self.blueprint_pages(),
            self.page("run/", self.run),
            self.page("yaml/", self.yaml),
            self.page("bundle/", self.bundle),
            *self.version_pages(),
        ]

    @admin.display(description="Published", ordering="current_version__number")
    def published(self, workflow: Workflow) -> str:
        version = workflow.current_version
        return f"version {version.number}" if version else "not yet"

    # --- the form ---

    def get_inline_instances(self, request: HttpRequest, obj: Workflow | None = None) -> list[Any]:
        if not self.may_edit(request) or (obj and is_large(obj)):
            return []
        return list(super().get_inline_instances(request, obj))

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        first = Project.objects.first()
        return {
            "project": first.pk if first else None,
            "inputs": {"type": "object", "properties": {}},
        }

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        formset.save(commit=False)
        for gone in formset.deleted_objects:
            gone.delete()
        for place, kept in enumerate(formset.in_order()):
            step = kept.instance
            if kept.has_changed() or step.position != place:
                step.position = place
                step.save()

    def response_add(
        self, request: HttpRequest, obj: Workflow, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._judged(request, obj) or super().response_add(request, obj, post_url_continue)

    def response_change(self, request: HttpRequest, obj: Workflow) -> HttpResponse:
        return self._judged(request, obj) or super().response_change(request, obj)

    def _judged(self, request: HttpRequest, workflow: Workflow) -> HttpResponse | None:
        """The answer to the buttons Validate and Publish, which save first."""
        if "_publish" in request.POST:
            return self._publish(request, workflow)
        if "_validate" not in request.POST:
            return None
        if validate_spec(draft_spec(workflow)):
            return self._report(workflow)
        self.message_user(
            request, "Saved. Nothing stands in the way of publishing.", messages.SUCCESS
        )
        return HttpResponseRedirect(self.url_of(workflow))

    def _publish(self, request: HttpRequest, workflow: Workflow) -> HttpResponse:
        before = workflow.current_version_id
        try:
            version = publish(workflow)
        except WorkflowInvalidError:
            return self._report(workflow)
        text = (
            f"Nothing has changed since version {version.number}, which stays the current one."
            if version.pk == before
            else f"Version {version.number} is published. Runs use it from now on."
        )
        self.message_user(request, text, messages.SUCCESS)
        return HttpResponseRedirect(self.url_of(workflow))

    def _report(self, workflow: Workflow) -> HttpResponse:
        return HttpResponseRedirect(f"{self.url_of(workflow)}?check=1")

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Workflow | None = None,
    ) -> HttpResponse:
        if obj is not None:
            context |= self._beside_the_form(request, obj, context)
        page: HttpResponse = super().render_change_form(
            request, context, add, change, form_url, obj
        )
        return page

    def _beside_the_form(
        self, request: HttpRequest, workflow: Workflow, context: dict[str, Any]
    ) -> dict[str, Any]:
        spec = draft_spec(workflow)
        beside = {
            **graph_context(spec),
            "price": price_card(workflow, spec),
            "versions": workflow.versions.defer("spec", "plan")[:VERSIONS_SHOWN],
            "is_large": is_large(workflow),
            "step_count": len(spec["steps"]),
            "may_run": may(request, Scope.RUNS_WRITE),
            "draft_yaml": "" if self.may_edit(request) else dump_text(spec),
        }
        if request.method == "GET" and "check" in request.GET:
            beside |= {"checked": True, "shown": self._show(validate_spec(spec), context)}
        return beside

    def _show(self, problems: Sequence[Problem], context: dict[str, Any]) -> list[Shown]:
        formsets = context["inline_admin_formsets"]
        return show_at_fields(
            problems,
            header=context["adminform"].form,
            steps=[form for shown in formsets for form in shown.formset.initial_forms],
        )

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        ids = [workflow.pk for workflow in objs]
        counted = Workflow.objects.filter(pk__in=ids).annotate(run_count=Count("runs"))
        told = [
            f"{workflow} with its steps and versions; runs that go too: {workflow.run_count}"
            for workflow in counted.order_by("name")
        ]
        return told, {}, set(), []

    def delete_model(self, request: HttpRequest, obj: Workflow) -> None:
        delete_workflow(obj)

    # --- pages of its own ---

    def load(self, request: HttpRequest) -> HttpResponse:
        """Make or replace a draft from YAML or JSON, or install a bundle."""
        if not self.may_edit(request):
            raise PermissionDenied
        form = ImportForm(request.POST or None, request.FILES or None)
        projects: Any = form.fields["project"]
        projects.queryset = Project.objects.all()
        if request.method == "POST" and form.is_valid():
            workflow = loaded(form)
            if workflow is not None:
                self.message_user(
                    request, f"{workflow.name} is loaded as a draft.", messages.SUCCESS
                )
                return self._report(workflow)
        return self.shown_page(request, "import.html", "Import a workflow", {"form": form})

    def yaml(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        workflow: Workflow = self.object_or_404(request, object_id)
        return download(dump_text(draft_spec(workflow)), f"{workflow.name}.yaml")

    def bundle(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        workflow: Workflow = self.object_or_404(request, object_id)
        try:
            document = export_bundle(workflow)
        except BundleInvalidError as error:
            for problem in error.problems[:50]:
                self.message_user(request, str(problem), messages.ERROR)
            return HttpResponseRedirect(self.url_of(workflow))
        return download(dump_text(document), f"{workflow.name}.bundle.yaml")


def is_large(workflow: Workflow) -> bool:
    """Whether its steps are too many for one page of forms."""
    return workflow.steps.count() > MAX_FORM_STEPS
