"""Pages about a workflow's versions: look, compare, go back."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import messages
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern

from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.core.mermaid import to_mermaid
from orchestrator.core.parsing import parse
from orchestrator.core.yaml_io import dump_text
from orchestrator.models import Workflow, WorkflowVersion
from orchestrator.selectors.run_page import node_names
from orchestrator.selectors.versions import DRAFT, version_diff
from orchestrator.services.versions import restore_version
from tenants.admin_base import TenantModelAdmin

if TYPE_CHECKING:
    _Base = TenantModelAdmin
else:
    _Base = object

_MAX_NUMBER = 2**31 - 1


class VersionPages(_Base):
    """What the workflow's admin shows of its versions."""

    def version_pages(self) -> list[URLPattern]:
        return [
            self.page("diff/", self.diff),
            self.page("versions/<int:number>/", self.version),
            self.page("versions/<int:number>/yaml/", self.version_yaml),
            self.page("versions/<int:number>/restore/", self.version_restore),
        ]

    def version(self, request: HttpRequest, object_id: UUID, number: int) -> HttpResponse:
        version = self._version_or_404(request, object_id, number)
        context = {
            **graph_context(version.spec),
            "workflow": version.workflow,
            "version": version,
            "is_current": version.workflow.current_version_id == version.pk,
            "may_edit": self.may_edit(request),
            "text": dump_text(version.spec),
        }
        title = f"{version.workflow} version {number}"
        return self.shown_page(request, "version.html", title, context)

    def version_yaml(self, request: HttpRequest, object_id: UUID, number: int) -> HttpResponse:
        version = self._version_or_404(request, object_id, number)
        return download(dump_text(version.spec), f"{version.workflow.name}-{number}.yaml")

    def diff(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """What changed: from the current version to the draft, unless others are chosen."""
        workflow: Workflow = self.object_or_404(request, object_id)
        current = workflow.current_version
        default = current.number if current else None
        before = _number_or_404(request.GET.get("from"), default)
        after = _number_or_404(request.GET.get("to"), None)
        numbers = list(workflow.versions.values_list("number", flat=True))
        if {before, after} - {None, *numbers}:
            raise Http404
        found = version_diff(workflow, before=before, after=after)
        context = {
            "workflow": workflow,
            "diff": found,
            "lines": list(_lines(found.text)),
            "before": DRAFT if before is None else before,
            "after": DRAFT if after is None else after,
            "choices": [DRAFT, *numbers],
        }
        return self.shown_page(request, "diff.html", f"What changed in {workflow}", context)

    def version_restore(self, request: HttpRequest, object_id: UUID, number: int) -> HttpResponse:
        """Make the draft equal to the version; publish it too, if that button was pressed."""
        self.editable_or_404(request, object_id)
        version = self._version_or_404(request, object_id, number)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        try:
            restored = restore_version(version, and_publish="publish" in request.POST)
        except WorkflowInvalidError as error:
            for problem in error.problems[:5]:
                self.message_user(request, str(problem), messages.ERROR)
            return HttpResponseRedirect(self.url_of(version.workflow))
        self.message_user(request, _restored(number, restored, request), messages.SUCCESS)
        return HttpResponseRedirect(self.url_of(restored))

    def _version_or_404(
        self, request: HttpRequest, object_id: UUID, number: int
    ) -> WorkflowVersion:
        workflow: Workflow = self.object_or_404(request, object_id)
        found = workflow.versions.filter(number=number).first() if number <= _MAX_NUMBER else None
        if found is None:
            raise Http404
        return found

    def shown_page(
        self, request: HttpRequest, template: str, title: str, context: dict[str, Any]
    ) -> HttpResponse:
        shared = {**self.admin_site.each_context(request), "title": title, "opts": self.opts}
        name = f"admin/orchestrator/workflow/{template}"
        return TemplateResponse(request, name, {**shared, **context})


def graph_context(spec: dict[str, Any]) -> dict[str, Any]:
    parsed = parse(spec).spec
    try:
        graph = to_mermaid(parsed) if parsed else ""
    except WorkflowInvalidError:  # a large graph is drawn by levels, and a cycle has none
        graph = ""
    return {"graph": graph, "nodes": node_names(parsed)}


def download(text: str, name: str) -> HttpResponse:
    response = HttpResponse(text, content_type="application/yaml; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _number_or_404(text: str | None, default: int | None) -> int | None:
    if not text:
        return default
    if text == DRAFT:
        return None
    if not text.isascii() or not text.isdecimal():
        raise Http404
    return int(text[:10])


_KINDS = {"+": "added", "-": "removed", "@": "place", " ": "same", "#": "place"}


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Each line of a unified diff behind its head, with its kind."""
    for line in text.split("\n")[2:-1]:
        yield _KINDS[line[:1] or " "], line


def _restored(number: int, workflow: Workflow, request: HttpRequest) -> str:
    if "publish" not in request.POST or workflow.current_version is None:
        return f"The draft is version {number} again. Publish it to let runs use it."
    current = workflow.current_version.number
    return f"Version {number} is published again, as version {current}. Runs use it from now on."
