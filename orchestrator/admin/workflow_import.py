"""The page that takes workflows in: a spec becomes a draft, a bundle is installed."""

from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldBooleanWidget,
)

from orchestrator.core.errors import SpecSyntaxError, WorkflowInvalidError
from orchestrator.core.yaml_io import MAX_BYTES, load_text
from orchestrator.models import Workflow
from orchestrator.services.bundles import OnConflict, install_bundle
from orchestrator.services.drafts import save_draft
from tenants.admin_fields import CodeArea

_ON_CONFLICT: Final = {
    "refuse": "install nothing",
    "rename": "give what comes another name",
    "replace": "replace what is here",
}


class ImportForm(forms.Form):
    project: Any = forms.ModelChoiceField(
        queryset=None, widget=UnfoldAdminSelectWidget(), empty_label=None
    )
    file = forms.FileField(required=False, widget=UnfoldAdminFileFieldWidget())
    text = forms.CharField(
        required=False, strip=False, widget=CodeArea(rows=16), label="Or its text"
    )
    replace = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanWidget(),
        label="Replace the draft of a workflow with the same name",
    )
    on_conflict = forms.ChoiceField(
        required=False,
        choices=tuple(_ON_CONFLICT.items()),
        widget=UnfoldAdminSelectWidget(),
        label="Where a bundle brings a name that something else has",
    )


def loaded(form: ImportForm) -> Workflow | None:
    """The workflow that was taken in; None if the form tells why it was not."""
    try:
        document = load_text(_source(form))
        return _installed(form, document) if "muster_bundle" in document else _draft(form, document)
    except SpecSyntaxError as error:
        form.add_error("text", str(error))
    except WorkflowInvalidError as error:
        for problem in error.problems[:50]:
            form.add_error("text", str(problem))
    except ValidationError as error:
        form.add_error("replace", error)
    return None


def _installed(form: ImportForm, document: dict[str, Any]) -> Workflow:
    project, chosen = form.cleaned_data["project"], form.cleaned_data["on_conflict"]
    on_conflict: OnConflict = chosen or "refuse"
    return install_bundle(document, project=project, on_conflict=on_conflict).workflow


def _draft(form: ImportForm, spec: dict[str, Any]) -> Workflow:
    project = form.cleaned_data["project"]
    existing = Workflow.objects.filter(project=project, name=spec.get("name")).first()
    if existing and not form.cleaned_data["replace"]:
        raise ValidationError(
            f"{project} has a workflow {existing.name} already; tick the box to replace it."
        )
    return save_draft(project=project, spec=spec, workflow=existing)


def _source(form: ImportForm) -> str | bytes:
    file = form.cleaned_data["file"]
    # One byte more than is read, so that the reader says it is too much.
    source: str | bytes = file.read(MAX_BYTES + 1) if file else form.cleaned_data["text"]
    return source
