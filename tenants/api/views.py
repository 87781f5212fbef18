from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.api import serializers as forms
from tenants.api.base import ApiView, no_content
from tenants.permissions import HasScope, IsOperator, OfWholeTenant, WritesOfWholeTenant
from tenants.roles import Scope
from tenants.selectors.api_keys import api_keys_of
from tenants.selectors.audit import audit_entries, with_labels
from tenants.selectors.members import members
from tenants.selectors.projects import project_for, projects_of
from tenants.selectors.tenants import all_tenants
from tenants.services import api_keys as key_service
from tenants.services import members as member_service
from tenants.services import projects as project_service
from tenants.services import tenants as tenant_service
from tenants.services.errors import ExpiryExceededError


class ProjectView(ApiView):
    """Folders of a tenant for workflows, runs and keys."""

    read_scope = Scope.WORKFLOWS_READ
    write_scope = Scope.ADMIN
    permission_classes = (HasScope, WritesOfWholeTenant)

    @extend_schema(responses=forms.ProjectOut(many=True))
    def list(self, request: Request) -> Response:
        self.query(forms.Query)
        return self.page(projects_of(self.principal), forms.ProjectOut)

    @extend_schema(responses=forms.ProjectOut)
    def retrieve(self, request: Request, **_: Any) -> Response:
        return self.one(self.found(projects_of(self.principal)), forms.ProjectOut)

    @extend_schema(request=forms.ProjectBody, responses={201: forms.ProjectOut})
    def create(self, request: Request) -> Response:
        project = project_service.create_project(**self.body(forms.ProjectBody))
        return self.created(self.shown(forms.ProjectOut, project), at="projects-detail")

    @extend_schema(request=forms.ProjectBody(partial=True), responses=forms.ProjectOut)
    def partial_update(self, request: Request, **_: Any) -> Response:
        project = self.found(projects_of(self.principal))
        changes = self.body(forms.ProjectBody, partial=True)
        changed = project_service.change_project(project, **changes)
        return self.one(changed, forms.ProjectOut)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, **_: Any) -> Response:
        """Delete an empty project; one that holds workflows answers 409."""
        project_service.delete_project(self.found(projects_of(self.principal)))
        return no_content()


class ApiKeyView(ApiView):
    """Keys that act for the tenant, or for one project of it. Only their hashes are kept."""

    read_scope = Scope.ADMIN
    write_scope = Scope.ADMIN
    secrets: ClassVar = ("key",)

    @extend_schema(responses=forms.ApiKeyOut(many=True))
    def list(self, request: Request) -> Response:
        self.query(forms.Query)
        return self.page(api_keys_of(self.principal), forms.ApiKeyOut)

    @extend_schema(responses=forms.ApiKeyOut)
    def retrieve(self, request: Request, **_: Any) -> Response:
        return self.one(self.found(api_keys_of(self.principal)), forms.ApiKeyOut)

    @extend_schema(request=forms.ApiKeyBody, responses={201: forms.NewApiKeyOut})
    def create(self, request: Request) -> Response:
        """Make a key, never wider than yours nor outliving it.

        Its secret is in this answer and nowhere else.
        """
        asked = self.body(forms.ApiKeyBody)
        wanted = asked.pop("project", None)
        narrowed = wanted is not None or self.principal.project_id is not None
        project = project_for(self.principal, wanted) if narrowed else None
        try:
            new = key_service.create_api_key(**asked, project=project, by=self.principal)
        except ExpiryExceededError as error:
            detail = {"expires_at": ErrorDetail(str(error), error.code)}
            raise ValidationError(detail) from error
        data = {**self.shown(forms.ApiKeyOut, new.row), "key": new.secret}
        return self.created(data, at="api-keys-detail")

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, **_: Any) -> Response:
        """Revoke the key, with all keys made with it and with those.

        The rows stay, for those who ask later what they were.
        """
        key_service.revoke_api_key(self.found(api_keys_of(self.principal)))
        return no_content()

    @extend_schema(request=None, responses=forms.ApiKeyOut)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, **_: Any) -> Response:
        """Revoke the key, with all keys made with it and with those.

        Each has an entry in the audit log and a `revoked_reason` that names the key it stems from.
        """
        key = key_service.revoke_api_key(self.found(api_keys_of(self.principal)))
        return self.one(key, forms.ApiKeyOut)

    @extend_schema(request=forms.RotateBody, responses={201: forms.RotatedApiKeyOut})
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, **_: Any) -> Response:
        """Make a new key with the same name, scopes, project and length of life.

        The old one works until the grace ends. The new secret is in this answer and nowhere
        else. No key rotates one that is wider than itself or gives a longer life than its own;
        a key that rotates itself has made the new one, which ends with it if it is revoked.
        """
        old = self.found(api_keys_of(self.principal))
        asked = self.body(forms.RotateBody)
        new = key_service.rotate_api_key(old, by=self.principal, **asked)
        data = {
            **self.shown(forms.ApiKeyOut, new.row),
            "key": new.secret,
            "replaces": self.shown(forms.ApiKeyOut, old),
        }
        return self.created(data, at="api-keys-detail")


class MemberView(ApiView):
    """People of the tenant. Accounts are made and invited in the admin."""

    read_scope = Scope.ADMIN
    write_scope = Scope.ADMIN
    permission_classes = (HasScope, OfWholeTenant)

    @extend_schema(responses=forms.MemberOut(many=True))
    def list(self, request: Request) -> Response:
        self.query(forms.Query)
        return self.page(members(), forms.MemberOut)

    @extend_schema(responses=forms.MemberOut)
    def retrieve(self, request: Request, **_: Any) -> Response:
        return self.one(self.found(members()), forms.MemberOut)

    @extend_schema(request=forms.MemberBody, responses=forms.MemberOut)
    def partial_update(self, request: Request, **_: Any) -> Response:
        member = self.found(members())
        role = self.body(forms.MemberBody)["role"]
        changed = member_service.change_role(member, role, by=self.principal)
        return self.one(changed, forms.MemberOut)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, **_: Any) -> Response:
        member_service.remove_member(self.found(members()), by=self.principal)
        return no_content()


class AuditView(ApiView):
    """The log of every change and trigger. Nobody edits it."""

    read_scope = Scope.ADMIN
    permission_classes = (HasScope, OfWholeTenant)

    @extend_schema(parameters=[forms.AuditQuery], responses=forms.AuditEntryOut(many=True))
    def list(self, request: Request) -> Response:
        """Who changed what, when and from where."""
        entries = audit_entries(**self.query(forms.AuditQuery))
        return self.page(entries, forms.AuditEntryOut, prepared=with_labels)

    @extend_schema(responses=forms.AuditEntryOut)
    def retrieve(self, request: Request, **_: Any) -> Response:
        (entry,) = with_labels([self.found(audit_entries())])
        return self.one(entry, forms.AuditEntryOut)


class TenantView(ApiView):
    """All tenants of the platform, for its operators, who log in."""

    read_scope = Scope.ADMIN
    write_scope = Scope.ADMIN
    permission_classes = (IsOperator, HasScope)

    @extend_schema(responses=forms.TenantOut(many=True))
    def list(self, request: Request) -> Response:
        self.query(forms.Query)
        return self.page(all_tenants(), forms.TenantOut)

    @extend_schema(responses=forms.TenantOut)
    def retrieve(self, request: Request, **_: Any) -> Response:
        return self.one(self.found(all_tenants()), forms.TenantOut)

    @extend_schema(request=forms.TenantBody, responses={201: forms.TenantOut})
    def create(self, request: Request) -> Response:
        tenant = tenant_service.create_tenant(**self.body(forms.TenantBody))
        return self.created(self.shown(forms.TenantOut, tenant), at="tenants-detail")

    @extend_schema(request=forms.TenantChange, responses=forms.TenantOut)
    def partial_update(self, request: Request, **_: Any) -> Response:
        tenant = self.found(all_tenants())
        changed = tenant_service.change_tenant(tenant, **self.body(forms.TenantChange))
        return self.one(changed, forms.TenantOut)

    @extend_schema(request=forms.SuspendBody, responses=forms.TenantOut)
    @action(detail=True, methods=["post"])
    def suspend(self, request: Request, **_: Any) -> Response:
        """Refuse the tenant's new runs; what it has stays readable."""
        tenant = self.found(all_tenants())
        suspended = tenant_service.suspend_tenant(tenant, **self.body(forms.SuspendBody))
        return self.one(suspended, forms.TenantOut)

    @extend_schema(request=None, responses=forms.TenantOut)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, **_: Any) -> Response:
        tenant = tenant_service.resume_tenant(self.found(all_tenants()))
        return self.one(tenant, forms.TenantOut)
