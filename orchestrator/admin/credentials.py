from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from orchestrator.provider_pages import tell_of_check
from orchestrator.services import provider_checks as checks
from orchestrator.templatetags.muster import moment
from tenants.admin_base import TenantModelAdmin, principal_of
from tenants.admin_fields import JsonField
from tenants.badges import state_badge
from tenants.kernel.errors import PlatformError
from tenants.middleware import opens_its_own_scope
from tenants.models import Credential
from tenants.roles import Scope
from tenants.scope import tenant_scope
from tenants.selectors import credentials as selectors
from tenants.services import credentials as service

_BADGES = {
    selectors.DISABLED: ("pending", "\u25cb"),
    selectors.UNREADABLE: ("failed", "\u2715"),
    selectors.REFUSED: ("failed", "\u2715"),
    selectors.FAILING: ("failed", "\u2715"),
    selectors.WORKING: ("completed", "\u2713"),
    selectors.UNCHECKED: ("pending", "?"),
}
# Where the services say that something is wrong, and the field of the form.
_FIELDS = {"/secret": "new_secret", "/name": "name", "/base_url": "base_url"}


class SecretInput(UnfoldAdminTextInputWidget):  # type: ignore[misc]
    """Never filled in: what was typed does not come back, not even with an error."""

    input_type = "password"

    def __init__(self) -> None:
        super().__init__({"autocomplete": "new-password", "spellcheck": "false"})

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, None, attrs)
        return context


def _models_field() -> JsonField:
    uses = ", ".join(settings.MUSTER_MODEL_USES)
    return JsonField(
        label="Models by role or complexity",
        rows=2,
        help_text=f'For steps that name none, such as {{"planner": "gpt-5"}}; there are {uses}.',
    )


class ChangeForm(forms.ModelForm):  # type: ignore[type-arg]
    """All that can be changed: the secret is rotated, and the address stays with it."""

    role_models = _models_field()

    def clean_role_models(self) -> dict[str, str]:
        models = self.cleaned_data["role_models"] or {}
        unknown = models.keys() - set(settings.MUSTER_MODEL_USES)
        if unknown:
            raise ValidationError(f"There is no role or complexity {', '.join(sorted(unknown))}.")
        if not all(isinstance(each, str) and 0 < len(each) <= 200 for each in models.values()):
            raise ValidationError("Write each model as text of 1 to 200 characters.")
        return dict(models)

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # the instance is filled in there
        if self.errors:
            return
        try:
            # Tried here, so that a refusal stands at its field.
            with transaction.atomic():
                self.stored = self._store()
        except PlatformError as error:
            field = _FIELDS.get(getattr(error, "loc", ""))
            self.add_error(field if field in self.fields else None, str(error))

    def _store(self) -> Credential:
        changes = {name: self.cleaned_data[name] for name in self.changed_data}
        return service.change_credential(self.instance, **changes) if changes else self.instance


class AddForm(ChangeForm):
    provider = forms.ChoiceField()
    new_secret = forms.CharField(
        label="Secret",
        strip=False,
        widget=SecretInput(),
        help_text="The provider's key. It is encrypted, and never shown again.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        known = (*selectors.providers_with_keys(), selectors.FOR_TOOLS)
        self.fields["provider"] = forms.ChoiceField(
            choices=[(name, name) for name in known], widget=UnfoldAdminSelectWidget
        )
        self.fields["base_url"].label = "Address (base URL)"
        self.fields["base_url"].help_text = (
            f"For the provider {service.ADDRESSED} alone: where it answers, with https. "
            "It cannot be changed later."
        )

    def _store(self) -> Credential:
        given = dict(self.cleaned_data)
        return service.create_credential(
            secret=given.pop("new_secret"), models=given.pop("role_models"), **given
        )


class RotateForm(forms.Form):
    new_secret = forms.CharField(label="Newer secret", strip=False, widget=SecretInput())


@admin.register(Credential)
class CredentialAdmin(TenantModelAdmin):
    """Keys go in here and are not seen again."""

    view_scope = edit_scope = Scope.ADMIN
    list_display = ("name", "provider", "ends_in", "state", "used", "enabled")
    list_filter = ("provider", "enabled")
    search_fields = ("name",)
    change_form_outer_before_template = "admin/muster/credential_state.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Credential]:
        queryset: QuerySet[Credential] = super().get_queryset(request)
        return queryset.prefetch_related("checks")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        secret = () if obj else ("new_secret",)
        # It cannot be given later, and few have one.
        address = () if obj and not obj.base_url else ("base_url",)
        return ("name", "provider", *secret, *address, "default_model", "role_models", "enabled")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("provider", "base_url") if obj else ()

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        kwargs["form"] = ChangeForm if obj else AddForm
        return super().get_form(request, obj, change=change, **kwargs)

    def save_model(self, request: HttpRequest, obj: Credential, form: Any, change: bool) -> None:
        obj.pk, obj._state.adding = form.stored.pk, False

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        if isinstance(obj, Credential):
            service.delete_credential(obj)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        credential = context.get("original")
        if credential is not None:
            context |= {
                "badge": self.state(credential),
                "check": selectors.last_check(credential),
                "rotation": RotateForm(),
                "may_edit": self.may_edit(request),
                "is_checkable": credential.provider != selectors.FOR_TOOLS,
            }
        page: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return page

    def get_custom_pages(self) -> list[URLPattern]:
        return [
            self.page("check/", self.ask),
            self.page("rotate/", self.rotate),
            self.page("retire/", self.retire),
        ]

    @opens_its_own_scope
    @method_decorator(require_POST)
    def ask(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        def begin() -> checks.Asking:
            return checks.begin_credential_check(self.editable_or_404(request, object_id))

        tell_of_check(request, begin)
        with tenant_scope(principal_of(request).tenant_id):
            return HttpResponseRedirect(self.url_of(self.object_or_404(request, object_id)))

    @method_decorator(require_POST)
    def rotate(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        credential = self.editable_or_404(request, object_id)
        try:
            service.rotate_credential(credential, secret=request.POST.get("new_secret", ""))
        except PlatformError as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self.message_user(
                request, "Both secrets serve now. Check them, then retire the old one."
            )
        return HttpResponseRedirect(self.url_of(credential))

    @method_decorator(require_POST)
    def retire(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        credential = self.editable_or_404(request, object_id)
        newest = request.POST.get("which") == "newest"
        try:
            service.retire_secret(credential, newest=newest)
        except PlatformError as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            which = "newest secret is" if newest else "older secret is"
            self.message_user(request, f"The {which} retired: nothing calls with it any more.")
        return HttpResponseRedirect(self.url_of(credential))

    @admin.display(description="Secret", ordering="hint")
    def ends_in(self, credential: Credential) -> str:
        shown = [
            credential.hint,
            *([credential.previous_hint] if credential.previous_secret else []),
        ]
        return format_html("<code>{}</code>", ", ".join(f"\u2026{hint}" for hint in shown))

    @admin.display(description="State")
    def state(self, credential: Credential) -> str:
        state = selectors.state_of(credential)
        colour, icon = _BADGES[state]
        return state_badge(colour, icon, state)

    @admin.display(description="Last used", ordering="last_used_at")
    def used(self, credential: Credential) -> str:
        return moment(credential.last_used_at) if credential.last_used_at else "never"
