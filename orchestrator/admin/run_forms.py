"""The forms that start a run: its input, and what every run may be told beside it."""

from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from costs.core.money import nano_from_text
from orchestrator.admin.input_forms import FieldInputForm, RawInputForm
from orchestrator.core.values import MAX_METADATA_KEYS, Duration
from tenants.admin_fields import JsonField, PlainTextField


class DurationField(PlainTextField):
    """A time span such as `30s`, as a timedelta; None if it is left empty."""

    def clean(self, value: Any) -> Any:
        text = (super().clean(value) or "").strip()
        try:
            return timedelta(seconds=Duration.parse(text).seconds) if text else None
        except ValueError as error:
            raise ValidationError(f"{error}.") from None


class UsdField(PlainTextField):
    """An amount in USD, as nano-USD; None if it is left empty."""

    def clean(self, value: Any) -> Any:
        text = (super().clean(value) or "").strip()
        try:
            return nano_from_text(text) if text else None
        except ValueError as error:
            raise ValidationError(f"{error}.") from None


class RunOptions(forms.Form):
    """What every run may be told, whatever its input."""

    priority = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=10,
        widget=UnfoldAdminIntegerFieldWidget({"placeholder": "5"}),
        help_text="0 to 10; higher goes first.",
    )
    deadline = DurationField(
        required=False,
        widget=UnfoldAdminTextInputWidget({"placeholder": "10m"}),
        help_text="How long the run may take, instead of what its workflow says.",
    )
    max_cost_nano = UsdField(
        required=False,
        label="Most it may cost (USD)",
        widget=UnfoldAdminTextInputWidget({"placeholder": "0.50"}),
        help_text="With the runs that it starts, where that is less than its workflow allows.",
    )
    metadata = JsonField(
        rows=3,
        label="Metadata (JSON)",
        help_text='To find the run again, such as {"ticket": "A-17"}.',
    )

    def clean_metadata(self) -> dict[str, Any]:
        given: dict[str, Any] = self.cleaned_data["metadata"] or {}
        if len(given) > MAX_METADATA_KEYS:
            raise ValidationError(f"At most {MAX_METADATA_KEYS} keys are kept.")
        return given

    def options(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in RunOptions.base_fields}

    def typed(self) -> dict[str, Any]:
        """The options as they were typed, for the other form of the same run."""
        return {
            **self.options(),
            "deadline": self.data.get("deadline", ""),
            "max_cost_nano": self.data.get("max_cost_nano", ""),
            "metadata": self.cleaned_data["metadata"] or None,
        }


class RawRunForm(RunOptions, RawInputForm):
    pass


class FieldRunForm(RunOptions, FieldInputForm):
    pass


RunForm = RawRunForm | FieldRunForm
