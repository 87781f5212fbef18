"""The gallery: blueprints with their graphs and prices, and the way from there to a run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from orchestrator.admin.prices import PriceCard, card_of
from orchestrator.admin.run_input import WITH_EXAMPLE
from orchestrator.admin.versions import VersionPages, graph_context
from orchestrator.core.blueprint import Blueprint
from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.core.yaml_io import dump_text
from orchestrator.models import Workflow
from orchestrator.selectors.blueprints import blueprints
from orchestrator.selectors.providers import providers
from orchestrator.services.blueprints import adopt_blueprint, blueprint_price
from orchestrator.services.bundles import Installed
from tenants.admin_base import may
from tenants.models import Project
from tenants.roles import Scope

if TYPE_CHECKING:
    _Base = VersionPages
else:
    _Base = object

_ON_CONFLICT: Final = {
    "refuse": "adopt nothing, and say so",
    "rename": "give what comes another name",
    "replace": "replace what is here; its published versions stay",
}
_PROBLEMS_SHOWN: Final = 50


class AdoptForm(forms.Form):
    project: Any = forms.ModelChoiceField(
        queryset=None, widget=UnfoldAdminSelectWidget(), empty_label=None
    )
    provider = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget())
    model = forms.CharField(
        required=False, max_length=100, strip=True, widget=UnfoldAdminTextInputWidget()
    )
    on_conflict = forms.ChoiceField(
        choices=tuple(_ON_CONFLICT.items()),
        widget=UnfoldAdminSelectWidget(),
        label="Where a name is taken",
    )

    def __init__(self, blueprint: Blueprint, *args: Any) -> None:
        super().__init__(*args)
        own = "As it comes: {} {}".format(*blueprint.model)
        usable = [(each.name, each.name) for each in providers() if not each.problem]
        chosen: Any = self.fields["provider"]
        chosen.choices = [("", own), *usable]
        projects: Any = self.fields["project"]
        projects.queryset = Project.objects.all()

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("provider") and not cleaned.get("model"):
            self.add_error("model", "Name the model that is to be asked.")
        if cleaned.get("model") and not cleaned.get("provider"):
            self.add_error("provider", "Say who has this model.")
        return cleaned


class BlueprintPages(_Base):
    """What the workflows' admin shows of blueprints."""

    def blueprint_pages(self) -> list[URLPattern]:
        guarded = self.admin_site.admin_view
        name = "orchestrator_workflow_blueprint"
        return [
            path("blueprints/", guarded(self.blueprints), name=f"{name}s"),
            path("blueprints/<slug:slug>/", guarded(self.blueprint), name=name),
        ]

    def blueprints(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {"blueprints": list(blueprints().values())}
        return self.shown_page(request, "blueprints.html", "Blueprints", context)

    def blueprint(self, request: HttpRequest, slug: str) -> HttpResponse:
        """One of them; whoever may edit workflows can adopt it here."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        found = blueprints().get(slug)
        if found is None:
            raise Http404
        if request.method == "POST" and not self.may_edit(request):
            raise PermissionDenied
        form = AdoptForm(found, request.POST or None)
        is_asked = request.method == "POST" and form.is_valid() and "_price" not in request.POST
        if is_asked and (adopted := _adopted(found, form)):
            return self._go_on(request, adopted)
        return self._shown(request, found, form)

    def _go_on(self, request: HttpRequest, adopted: Installed) -> HttpResponse:
        """To the form of a first run, if it was published for that; else to the draft."""
        workflow = adopted.workflow
        if adopted.version is not None and may(request, Scope.RUNS_WRITE):
            self.message_user(request, f"{workflow.name} is adopted and published.")
            address = reverse("admin:orchestrator_workflow_run", args=[workflow.pk])
            return HttpResponseRedirect(f"{address}?{WITH_EXAMPLE}=1")
        self.message_user(request, f"{workflow.name} is adopted as a draft.")
        return HttpResponseRedirect(f"{self.url_of(workflow)}?check=1")

    def _shown(self, request: HttpRequest, found: Blueprint, form: AdoptForm) -> HttpResponse:
        chosen = form.cleaned_data if form.is_bound and form.is_valid() else {}
        project = chosen.get("project") or Project.objects.first()
        here = Workflow.objects.select_related("project").filter(name=found.name)
        context = {
            **graph_context(dict(found.spec)),
            "blueprint": found,
            "price": _price(found, project, chosen) if project else None,
            "form": form,
            "may_edit": self.may_edit(request),
            "may_run": may(request, Scope.RUNS_WRITE),
            "here": list(here),
            "example": dump_text(found.example) if isinstance(found.example, dict) else "",
            "text": dump_text(found.document()),
        }
        return self.shown_page(request, "blueprint.html", found.name, context)


def _price(blueprint: Blueprint, project: Project, chosen: Mapping[str, Any]) -> PriceCard:
    model = {name: chosen.get(name, "") for name in ("provider", "model")}
    return card_of(blueprint_price(blueprint, project=project, **model))


def _adopted(blueprint: Blueprint, form: AdoptForm) -> Installed | None:
    asked = form.cleaned_data
    try:
        return adopt_blueprint(
            blueprint,
            project=asked["project"],
            on_conflict=asked["on_conflict"],
            provider=asked["provider"],
            model=asked["model"],
            and_publish="_run" in form.data,
        )
    except WorkflowInvalidError as error:
        for problem in error.problems[:_PROBLEMS_SHOWN]:
            taken = problem.code == "already_exists"
            form.add_error("on_conflict" if taken else None, str(problem))
    return None
