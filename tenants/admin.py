from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import BadRequest, ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse
from django.utils.cache import add_never_cache_headers
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminTextInputWidget

from tenants.admin_base import (
    OperatorModelAdmin,
    TenantForm,
    TenantModelAdmin,
    is_operator,
    principal_of,
    shown_json,
)
from tenants.admin_fields import Chips
from tenants.badges import state_badge
from tenants.kernel.clock import now
from tenants.kernel.errors import PlatformError
from tenants.models import (
    ApiKey,
    AuditEntry,
    Membership,
    Project,
    Tenant,
    TenantStatus,
    User,
)
from tenants.principals import Principal
from tenants.roles import Role, Scope
from tenants.scope import current_tenant_id
from tenants.selectors.api_keys import keys_that_end_with
from tenants.selectors.audit import with_labels
from tenants.selectors.tenants import all_tenants
from tenants.services.api_keys import (
    GRACE,
    NewKey,
    create_api_key,
    revoke_api_key,
    rotate_api_key,
)
from tenants.services.members import change_role, remove_member
from tenants.services.projects import delete_project
from tenants.services.tenants import (
    change_tenant,
    create_tenant,
    resume_tenant,
    suspend_tenant,
)

# Roles of memberships say what a person may do; Django's groups say nothing here.
admin.site.unregister(Group)


class TenantDetailsForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean_slug(self) -> str:
        slug: str = self.cleaned_data["slug"]
        # The ordinary connection sees one tenant only, so uniqueness is asked of the system's.
        others = Tenant.objects.using("system").filter(slug=slug).exclude(pk=self.instance.pk)
        if others.exists():
            raise ValidationError("Another tenant has this slug; choose another.")
        return slug


@admin.register(Tenant)
class TenantAdmin(OperatorModelAdmin):
    form = TenantDetailsForm
    list_display = (
        *("name", "slug", "state", "weight", "max_runs"),
        *("uses_environment_credentials", "created_at"),
    )
    list_filter = ("status",)
    search_fields = ("name", "slug")
    fields = ("name", "slug", "uses_environment_credentials", "weight", "max_runs")
    change_form_outer_before_template = "admin/muster/tenant_state.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        return all_tenants().order_by("name")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # suspended, never lost

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        if not change:
            made = create_tenant(**form.cleaned_data)
            obj.pk, obj._state.db, obj._state.adding = made.pk, "system", False
        elif form.changed_data:
            change_tenant(obj, **{name: form.cleaned_data[name] for name in form.changed_data})

    @admin.display(description="State", ordering="status")
    def state(self, tenant: Tenant) -> str:
        if tenant.status == TenantStatus.ACTIVE:
            return state_badge("completed", "✓", "active")
        return state_badge("paused", "⏸", "suspended")

    def get_custom_pages(self) -> list[URLPattern]:
        return [self.page("suspend/", self.suspend), self.page("resume/", self.resume)]

    @method_decorator(require_POST)
    def suspend(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        tenant = self.editable_or_404(request, object_id)
        suspend_tenant(tenant, reason=request.POST.get("reason", "")[:500])
        self.message_user(
            request, f"{tenant} is suspended: new runs are refused.", messages.WARNING
        )
        return HttpResponseRedirect(self.url_of(tenant))

    @method_decorator(require_POST)
    def resume(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        tenant = self.editable_or_404(request, object_id)
        resume_tenant(tenant)
        self.message_user(request, f"{tenant} may start runs again.", messages.SUCCESS)
        return HttpResponseRedirect(self.url_of(tenant))


@admin.register(User)
class UserAdmin(OperatorModelAdmin, BaseUserAdmin):  # type: ignore[misc,type-arg]
    """Accounts. What a person may do in a tenant is said by their membership there."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_superuser", "is_active", "last_login")
    list_filter = ("is_superuser", "is_active")
    search_fields = ("username", "email", "first_name", "last_name")
    ordering = ("username",)
    fieldsets = (
        (None, {"fields": ("username", "password", "is_active", "is_superuser")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
    )
    filter_horizontal = ()
    add_fieldsets = ((None, {"fields": ("username", "usable_password", "password1", "password2")}),)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # closed by `is_active`; the audit log goes on naming them


@admin.register(Project)
class ProjectAdmin(TenantModelAdmin):
    view_scope = Scope.WORKFLOWS_READ
    edit_scope = Scope.ADMIN
    list_display = ("name", "slug", "description")
    search_fields = ("name", "slug")
    fields = ("name", "slug", "description")

    class form(TenantForm):
        unique = ("slug",)

    def delete_model(self, request: HttpRequest, obj: Project) -> None:
        delete_project(obj)


class MembershipForm(TenantForm):
    username = forms.CharField(
        widget=UnfoldAdminTextInputWidget({"autocomplete": "off"}),
        help_text="The account's name. Accounts are made by an operator.",
    )
    actor: ClassVar[Principal]

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"]
        person = User.objects.filter(username=name, is_active=True).first()
        if person is None:
            raise ValidationError("There is no account of this name.")
        if Membership.objects.filter(user=person).exists():
            raise ValidationError("This person is a member already.")
        self.instance.user = person
        return name

    def clean_role(self) -> str:
        role: str = self.cleaned_data["role"]
        if role == Role.OWNER and self.actor.role != Role.OWNER:
            raise ValidationError("Only an owner may make somebody an owner.")
        return role


class RoleForm(forms.ModelForm):  # type: ignore[type-arg]
    actor: ClassVar[Principal]

    def clean_role(self) -> str:
        role: str = self.cleaned_data["role"]
        stored = Membership.objects.get(pk=self.instance.pk)
        try:
            # Tried here, so that a refusal stands at the field.
            change_role(stored, role, by=self.actor)
        except PlatformError as error:
            raise ValidationError(str(error)) from error
        return role


@admin.register(Membership)
class MembershipAdmin(TenantModelAdmin):
    view_scope = edit_scope = Scope.ADMIN
    list_display = ("user", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("user",)
    search_fields = ("user__username", "user__email")
    ordering = ("user__username",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("user", "role") if obj else ("username", "role")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("user",) if obj else ()

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        base = RoleForm if obj else MembershipForm
        kwargs["form"] = type(base.__name__, (base,), {"actor": principal_of(request)})
        return super().get_form(request, obj, change=change, **kwargs)

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        if not change:
            obj.save()

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        remove_member(obj, by=principal_of(request))


class RotateForm(forms.Form):
    """When the old key is to end."""

    grace = forms.ChoiceField(
        label="This one then ends",
        choices=[("0", "at once"), ("1", "in an hour"), ("24", "in a day"), ("168", "in a week")],
        initial="1",
        required=False,
        widget=forms.Select({"class": "m-input"}),
    )

    def clean_grace(self) -> timedelta:
        hours = self.cleaned_data["grace"]
        return timedelta(hours=int(hours)) if hours else GRACE


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    scopes = forms.MultipleChoiceField(choices=Scope.choices, widget=Chips())

    def clean_expires_at(self) -> Any:
        expires = self.cleaned_data["expires_at"]
        if expires is not None and expires <= now():
            raise ValidationError("This lies in the past.")
        return expires


@admin.register(ApiKey)
class ApiKeyAdmin(TenantModelAdmin):
    """A key is made and revoked, never changed. Its secret is shown once, in the answer itself."""

    view_scope = edit_scope = Scope.ADMIN
    form = ApiKeyForm
    list_display = ("name", "prefix_shown", "state", "project", "last_used_at", "expires_at")
    list_select_related = ("project",)
    search_fields = ("name", "prefix")
    fields = ("name", "project", "scopes", "expires_at")
    change_form_outer_before_template = "admin/muster/api_key_state.html"

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return obj is None and super().has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # revoked; the audit log goes on naming it

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        made = create_api_key(**form.cleaned_data)
        obj.pk, obj.prefix, obj._state.adding = made.row.pk, made.row.prefix, False
        request.new_secret = made.secret  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._shown_once(request, NewKey(obj, request.new_secret))  # type: ignore[attr-defined]

    def _shown_once(
        self, request: HttpRequest, new: NewKey, *, replaces: ApiKey | None = None
    ) -> HttpResponse:
        """The answer with the secret, which goes neither into the session nor into a message."""
        context = {
            **self.admin_site.each_context(request),
            "title": "New API key",
            "opts": self.opts,
            "key": new.row,
            "secret": new.secret,
            "replaces": replaces,
            "api_root": request.build_absolute_uri("/api/v1/"),
        }
        response = TemplateResponse(request, "admin/muster/api_key_once.html", context)
        add_never_cache_headers(response)
        return response

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        key = context.get("original")
        if key is not None:
            context |= {
                "is_usable": key.is_usable(now()),
                "replaces": key.replaces.first(),
                "ends_with_it": keys_that_end_with(key),
                "rotation": RotateForm(),
            }
        page: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return page

    def get_custom_pages(self) -> list[URLPattern]:
        return [self.page("revoke/", self.revoke), self.page("rotate/", self.rotate)]

    @method_decorator(require_POST)
    def rotate(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        key = self.editable_or_404(request, object_id)
        form = RotateForm(request.POST)
        if not form.is_valid():
            raise BadRequest
        try:
            new = rotate_api_key(key, by=principal_of(request), grace=form.cleaned_data["grace"])
        except PlatformError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(self.url_of(key))
        return self._shown_once(request, new, replaces=key)

    @method_decorator(require_POST)
    def revoke(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        key = self.editable_or_404(request, object_id)
        others = len(keys_that_end_with(key))
        revoke_api_key(key)
        besides = f", and {others} more with it" if others else ""
        self.message_user(request, f"The key {key.name} is revoked{besides}.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:tenants_apikey_changelist"))

    @admin.display(description="Key", ordering="prefix")
    def prefix_shown(self, key: ApiKey) -> str:
        return format_html("<code>{}…</code>", key.prefix)

    @admin.display(description="State")
    def state(self, key: ApiKey) -> str:
        if key.revoked_at:
            return state_badge("cancelled", "⊘", "revoked")
        if not key.is_usable(now()):
            return state_badge("pending", "○", "expired")
        if key.replaced_by_id:
            return state_badge("waiting", "↻", "replaced")
        return state_badge("completed", "✓", "usable")


class AuditList(ChangeList):  # type: ignore[misc]
    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = with_labels(self.result_list)


@admin.register(AuditEntry)
class AuditEntryAdmin(TenantModelAdmin):
    view_scope = Scope.ADMIN
    list_display = ("at", "who", "action", "what", "address")
    list_filter = ("actor_kind", "object_type", "at")
    search_fields = ("action", "actor_label", "object_id")
    date_hierarchy = "at"
    fields = (
        "at",
        "who",
        "ip",
        "request_id",
        "action",
        "what",
        "object_id",
        "before_shown",
        "after_shown",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        if not is_operator(request):
            return super().get_queryset(request)
        # Changes of what belongs to no tenant are for operators to see.
        mine = Q(tenant_id=current_tenant_id()) | Q(tenant_id=None)
        return AuditEntry.objects.using("system").filter(mine)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[AuditList]:
        return AuditList

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> AuditEntry | None:
        entry: AuditEntry | None = super().get_object(request, object_id, from_field)
        if entry is not None:
            with_labels([entry])
        return entry

    @admin.display(description="From", ordering="ip")
    def address(self, entry: AuditEntry) -> str:
        return entry.ip or "\N{EN DASH}"

    @admin.display(description="Who", ordering="actor_label")
    def who(self, entry: AuditEntry) -> str:
        kind = _in_words(entry.actor_kind)
        return f"{entry.actor_label} ({kind})" if entry.actor_label else kind

    @admin.display(description="What")
    def what(self, entry: AuditEntry) -> str:
        kind = _in_words(entry.object_type)
        if not entry.object_label:
            return f"{kind} {entry.object_id}"
        return format_html(
            '{} <span title="{}">{}</span>', kind, entry.object_id, entry.object_label
        )

    @admin.display(description="Before")
    def before_shown(self, entry: AuditEntry) -> str:
        return shown_json(entry.before)

    @admin.display(description="After")
    def after_shown(self, entry: AuditEntry) -> str:
        return shown_json(entry.after)


def _in_words(name: str) -> str:
    return name.replace("_", " ").replace("api", "API")
