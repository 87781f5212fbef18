"""What every admin page has in common: the open tenant, roles as permissions, audit as history."""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from typing import Any, ClassVar, cast
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import IntegrityError
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from tenants.kernel.errors import PlatformError
from tenants.models import AuditEntry
from tenants.principals import Principal, has_scope
from tenants.scope import as_operator, current_tenant_id

HISTORY_PAGE = 50


def principal_or_none(request: HttpRequest) -> Principal | None:
    """Who the tenant middleware found; None for whoever is in no tenant."""
    return getattr(request, "principal", None)


def principal_of(request: HttpRequest) -> Principal:
    """The caller of a page that nobody reaches without a tenant."""
    principal = principal_or_none(request)
    if principal is None:
        raise PermissionDenied
    return principal


def may(request: HttpRequest, scope: str) -> bool:
    return has_scope(principal_or_none(request), scope)


def is_operator(request: HttpRequest) -> bool:
    user = request.user
    return bool(user.is_active and user.is_superuser)


def shown_json(value: Any) -> SafeString | str:
    if value is None:
        return "none"
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return format_html('<pre class="m-code">{}</pre>', text)


class TenantModelAdmin(ModelAdmin):  # type: ignore[misc]
    """Rows of the open tenant alone. A stranger's row is 404, as if it did not exist.

    `view_scope` and `edit_scope` say what a role must hold; without `edit_scope` the pages
    are read-only. Nothing is written to Django's own log: the database's audit triggers see
    every change, and the history page shows what they wrote.
    """

    view_scope: ClassVar[str]
    edit_scope: ClassVar[str | None] = None
    show_full_result_count = False
    list_per_page = 50
    compressed_fields = False
    object_history_template = "admin/muster/history.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super().get_queryset(request)
        return queryset.filter(tenant_id=current_tenant_id())

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may(request, self.view_scope)

    def may_edit(self, request: HttpRequest) -> bool:
        return self.edit_scope is not None and may(request, self.edit_scope)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.may_edit(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may_edit(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.may_edit(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def object_or_404(self, request: HttpRequest, object_id: UUID | str) -> Any:
        """The object of a page of our own, for whoever may look at it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        found = self.get_object(request, str(object_id))
        if found is None:
            raise Http404
        return found

    def editable_or_404(self, request: HttpRequest, object_id: UUID) -> Any:
        found = self.object_or_404(request, object_id)
        if not self.may_edit(request):
            raise PermissionDenied
        return found

    def get_custom_pages(self) -> list[URLPattern]:
        """Pages of our own, built with `page`."""
        return []

    def get_urls(self) -> list[URLPattern]:
        return [*self.get_custom_pages(), *super().get_urls()]

    def page(self, route: str, view: Callable[..., HttpResponse]) -> URLPattern:
        """A page of our own below an object; its name ends with the method's."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_{view.__name__}"
        guarded: Callable[..., HttpResponse] = self.admin_site.admin_view(view)
        return path(f"<uuid:object_id>/{route}", guarded, name=name)

    def url_of(self, obj: Model, page: str = "change") -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_{page}", args=[obj.pk])

    def _get_obj_does_not_exist_redirect(
        self, request: HttpRequest, opts: Any, object_id: str
    ) -> HttpResponse:
        raise Http404

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            # Rows of other tables are made and removed on their own pages, not in pop-ups.
            field.widget = field.widget.widget
        return field

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        # The database deletes what hangs on a row; listing thousands of them helps nobody.
        return [str(obj) for obj in objs], {}, set(), []

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> None:
        return None

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> None:
        return None

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        return None

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        # One by one, so that what forbids to delete a row on its page forbids it here too.
        for row in queryset.order_by("pk"):
            self.delete_model(request, row)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        answer = partial(super().changeform_view, request, object_id, form_url, extra_context)
        with suppress(IntegrityError, PlatformError):
            return cast(HttpResponse, answer())
        # Somebody was faster, and nothing was written. What they wrote the form sees now.
        try:
            return cast(HttpResponse, answer())
        except PlatformError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(self._list_url())

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            answer: HttpResponse = super().delete_view(request, object_id, extra_context)
        except PlatformError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(self._list_url())
        return answer

    def _list_url(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def audit_entries(self, request: HttpRequest, obj: Model) -> QuerySet[AuditEntry]:
        return AuditEntry.objects.filter(
            tenant_id=current_tenant_id(),
            object_type=self.opts.db_table,
            object_id=str(obj.pk),
        )

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        obj = self.object_or_404(request, object_id)
        entries = Paginator(self.audit_entries(request, obj), HISTORY_PAGE)
        context = {
            **self.admin_site.each_context(request),
            "title": f"History of {obj}",
            "opts": self.opts,
            "object": obj,
            "page": entries.get_page(request.GET.get("p")),
            **(extra_context or {}),
        }
        return TemplateResponse(request, self.object_history_template, context)


class OperatorModelAdmin(TenantModelAdmin):
    """Pages about what belongs to no tenant. For anyone but operators: 404."""

    view_scope = edit_scope = ""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super(TenantModelAdmin, self).get_queryset(request)
        return queryset

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return is_operator(request)

    def may_edit(self, request: HttpRequest) -> bool:
        return is_operator(request)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        with as_operator():
            super().save_model(request, obj, form, change)

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        with as_operator():
            obj.delete(using="system")

    def audit_entries(self, request: HttpRequest, obj: Model) -> QuerySet[AuditEntry]:
        return AuditEntry.objects.using("system").filter(
            object_type=self.opts.db_table, object_id=str(obj.pk)
        )

    def get_urls(self) -> list[URLPattern]:
        urls: list[URLPattern] = super().get_urls()
        for url in urls:
            url.callback = _for_operators(url.callback)
        return urls


def _for_operators(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        # Who is not logged in goes on to the log-in page.
        if request.user.is_authenticated and not is_operator(request):
            raise Http404
        return view(request, *args, **kwargs)

    return guarded


class TenantForm(forms.ModelForm):  # type: ignore[type-arg]
    """Refuses a second row with the same `unique` fields in the tenant, at the last of them."""

    unique: ClassVar[tuple[str, ...]] = ()

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.unique and all(name in cleaned for name in self.unique):
            facts = {name: cleaned[name] for name in self.unique}
            others = type(self.instance).objects.filter(**facts).exclude(pk=self.instance.pk)
            if others.exists():
                what = self.instance._meta.verbose_name
                self.add_error(self.unique[-1], f"Another {what} is like this already.")
        return cleaned
