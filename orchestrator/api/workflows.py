from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from orchestrator.api import serializers as forms
from orchestrator.api.bundles import BundleQuery, InstalledOut, InstallQuery, told_installed
from orchestrator.api.parsers import SPEC_PARSERS
from orchestrator.api.plans import PlanOut, told_price
from orchestrator.api.renderers import BundleYamlRenderer, MermaidRenderer, SpecYamlRenderer
from orchestrator.api.versions import DiffOut, DiffQuery, RestoreBody, told
from orchestrator.core.mermaid import to_mermaid
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.models import Workflow
from orchestrator.selectors.plan_prices import draft_price
from orchestrator.selectors.versions import current_number, version_diff
from orchestrator.selectors.workflows import shape_of, workflows_like, workflows_of
from orchestrator.services import drafts
from orchestrator.services import workflows as service
from orchestrator.services.bundle_export import export_bundle
from orchestrator.services.bundles import install_bundle
from orchestrator.services.deletion import delete_workflow
from orchestrator.services.versions import restore_version
from tenants.api.base import ApiView, no_content
from tenants.api.serializers import Query, Strict
from tenants.permissions import HasScope, WritesOfWholeTenant
from tenants.roles import Scope
from tenants.selectors.projects import project_for

_SPEC = {"application/json": OpenApiTypes.OBJECT, "application/yaml": OpenApiTypes.OBJECT}
_NUMBER = OpenApiParameter("number", int, OpenApiParameter.PATH)


class WorkflowView(ApiView):
    """Drafts of workflows and their published versions. A body is the spec itself.

    The project stands in the query, or in the body beside the spec.
    """

    read_scope = Scope.WORKFLOWS_READ
    write_scope = Scope.WORKFLOWS_WRITE
    parser_classes = SPEC_PARSERS

    @extend_schema(parameters=[forms.WorkflowQuery], responses=forms.WorkflowOut(many=True))
    def list(self, request: Request) -> Response:
        filters = self.query(forms.WorkflowQuery)
        return self.page(workflows_like(self.principal, **filters), forms.WorkflowOut)

    @extend_schema(
        request=_SPEC, parameters=[forms.ProjectChoice], responses={201: forms.WorkflowDetail}
    )
    def create(self, request: Request) -> Response:
        """Save a draft. It may still be unfit to publish: see `workflows/validate`."""
        spec, project = self._spec()
        draft = drafts.save_draft(project=project_for(self.principal, project), spec=spec)
        return self.created(self._detail(draft), at="workflows-detail")

    @extend_schema(
        responses={
            (200, "application/json"): forms.WorkflowDetail,
            (200, "application/yaml"): OpenApiTypes.OBJECT,
        }
    )
    def retrieve(self, request: Request, **_: Any) -> Response:
        """The draft; with `Accept: application/yaml` its spec as a file."""
        return Response(self._detail(self._workflow()))

    @extend_schema(request=_SPEC, responses=forms.WorkflowDetail)
    def update(self, request: Request, **_: Any) -> Response:
        """Make the draft equal to the spec."""
        workflow = self._workflow()
        spec = self._own_spec(workflow)
        return Response(self._detail(self._saved(workflow, spec)))

    @extend_schema(request=_SPEC, responses=forms.WorkflowDetail)
    def partial_update(self, request: Request, **_: Any) -> Response:
        """Replace the top-level keys that are given; null removes one."""
        workflow = self._workflow()
        merged = {**drafts.draft_spec(workflow), **self._own_spec(workflow)}
        spec = {key: value for key, value in merged.items() if value is not None}
        return Response(self._detail(self._saved(workflow, spec)))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, **_: Any) -> Response:
        """Delete the workflow with its versions and runs. The ledger keeps what they cost."""
        delete_workflow(self._workflow())
        return no_content()

    @extend_schema(request=_SPEC, responses=forms.ReportOut)
    @action(detail=False, methods=["post"], write_scope=Scope.WORKFLOWS_READ)
    def validate(self, request: Request) -> Response:
        """Everything that stands in the way of publishing this spec. Nothing is saved."""
        spec, _ = self._spec()
        problems = service.validate_spec(spec)
        report = {"valid": not problems, "errors": [asdict(problem) for problem in problems]}
        return Response(report)

    @extend_schema(request=None, responses={201: forms.VersionDetail})
    @action(detail=True, methods=["post"])
    def publish(self, request: Request, **_: Any) -> Response:
        """Freeze the draft as the next version. A draft that did not change gives its version."""
        workflow = self._workflow()
        self.body(Strict)
        version = service.publish(workflow)
        data = self.shown(forms.VersionDetail, version)
        ids = {"id": workflow.id, "number": version.number}
        return self.created(data, at="workflows-version", ids=ids)

    @extend_schema(responses=forms.VersionOut(many=True))
    @action(detail=True)
    def versions(self, request: Request, **_: Any) -> Response:
        self.query(Query)
        rows = self._workflow().versions.defer("spec", "plan")
        return self.page(rows, forms.VersionOut)

    @extend_schema(
        parameters=[_NUMBER],
        responses={
            (200, "application/json"): forms.VersionDetail,
            (200, "application/yaml"): OpenApiTypes.OBJECT,
        },
    )
    @action(detail=True, url_path="versions/<int:number>")
    def version(self, request: Request, number: int, **_: Any) -> Response:
        found = self.found(self._workflow().versions.defer("plan"), number=number)
        return Response(self.shown(forms.VersionDetail, found))

    @extend_schema(parameters=[_NUMBER], request=RestoreBody, responses={200: forms.WorkflowDetail})
    @action(detail=True, methods=["post"], url_path="versions/<int:number>/restore")
    def restore(self, request: Request, number: int, **_: Any) -> Response:
        """Make the draft equal to a version; with `publish`, a new version too."""
        workflow = self._workflow()
        asked = self.body(RestoreBody)
        version = self.found(workflow.versions.select_related("workflow__project"), number=number)
        restored = restore_version(version, and_publish=asked["publish"])
        return Response(self._detail(restored))

    @extend_schema(parameters=[DiffQuery], responses=DiffOut)
    @action(detail=True)
    def diff(self, request: Request, **_: Any) -> Response:
        """What changed between two versions, or since one of them in the draft."""
        workflow = self._workflow()
        asked = {"after": None, **self.query(DiffQuery)}
        if "before" not in asked:
            asked["before"] = current_number(workflow)
        return Response(self.shown(DiffOut, told(version_diff(workflow, **asked))))

    @extend_schema(responses=PlanOut)
    @action(detail=True)
    def plan(self, request: Request, **_: Any) -> Response:
        """Facts about the draft's graph, and what a run of it costs: at the worst, and likely."""
        workflow = self._workflow()
        draft = drafts.draft_spec(workflow)
        price = told_price(draft_price(workflow, draft))
        return Response(self.shown(PlanOut, {**asdict(shape_of(draft)), **price}))

    @extend_schema(
        parameters=[BundleQuery],
        responses={
            (200, "application/json"): OpenApiTypes.OBJECT,
            (200, "application/yaml"): OpenApiTypes.OBJECT,
        },
    )
    @action(detail=True, renderer_classes=[JSONRenderer, BundleYamlRenderer])
    def bundle(self, request: Request, **_: Any) -> Response:
        """The draft or a version, with the agents and the versions that it names, as one file."""
        workflow = self._workflow()
        number = self.query(BundleQuery).get("version")
        versions = workflow.versions.select_related("workflow__project")
        version = self.found(versions, number=number) if number else None
        return Response(export_bundle(workflow, version))

    @extend_schema(request=_SPEC, parameters=[InstallQuery], responses={201: InstalledOut})
    @action(detail=False, methods=["post"], permission_classes=[HasScope, WritesOfWholeTenant])
    def install(self, request: Request) -> Response:
        """Put a bundle into a project, all of it or, with every problem told, nothing."""
        asked = self.query(InstallQuery)
        installed = install_bundle(
            dict(request.data),
            project=project_for(self.principal, asked.get("project")),
            on_conflict=asked["on_conflict"],
            and_publish=asked["publish"],
        )
        ids = {"id": installed.workflow.id}
        data = self.shown(InstalledOut, told_installed(installed))
        return self.created(data, at="workflows-detail", ids=ids)

    @extend_schema(
        responses={(200, "text/plain"): str, (200, "application/json"): forms.MermaidOut}
    )
    @action(detail=True, renderer_classes=[MermaidRenderer, JSONRenderer])
    def mermaid(self, request: Request, **_: Any) -> Response:
        """The draft's graph as Mermaid text."""
        spec = spec_from_mapping(drafts.draft_spec(self._workflow()))
        return Response({"mermaid": to_mermaid(spec)})

    def get_renderers(self) -> Any:
        renderers = super().get_renderers()
        return [*renderers, SpecYamlRenderer()] if self.action in _AS_YAML else renderers

    def _workflow(self) -> Workflow:
        found: Workflow = self.found(workflows_of(self.principal))
        return found

    def _detail(self, workflow: Workflow) -> dict[str, Any]:
        summary = self.shown(forms.WorkflowOut, workflow)
        return {**summary, "spec": drafts.draft_spec(workflow)}

    def _saved(self, workflow: Workflow, spec: Mapping[str, Any]) -> Workflow:
        return drafts.save_draft(project=workflow.project, spec=spec, workflow=workflow)

    def _spec(self) -> tuple[dict[str, Any], str | None]:
        """The spec, and the project that the query or the body names."""
        spec = dict(self.request.data)
        in_body = {"project": spec.pop("project")} if "project" in spec else {}
        named = {**self.query(forms.ProjectChoice), **_checked_project(in_body)}
        return spec, named.get("project")

    def _own_spec(self, workflow: Workflow) -> dict[str, Any]:
        spec, project = self._spec()
        if project is not None and project_for(self.principal, project) != workflow.project:
            message = "A workflow stays in its project; post it to the other one."
            raise ValidationError({"project": ValidationError(message, "not_movable").detail})
        return spec


_AS_YAML = frozenset({"retrieve", "version"})


def _checked_project(data: Mapping[str, Any]) -> dict[str, Any]:
    form = forms.ProjectChoice(data=data)
    form.is_valid(raise_exception=True)
    checked: dict[str, Any] = form.validated_data
    return checked
