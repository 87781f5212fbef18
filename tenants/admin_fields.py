"""Form fields that give back what was stored: texts to the letter, JSON in its author's order."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

_ZERO = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class TextArea(UnfoldAdminTextareaWidget):  # type: ignore[misc]
    """A text area that keeps a first empty line, which HTML would swallow."""

    def format_value(self, value: Any) -> str | None:
        text = super().format_value(value)
        return "\n" + text if isinstance(text, str) and text.startswith("\n") else text


class CodeArea(TextArea):
    """For JSON and YAML: fixed width, no spelling marks."""

    def __init__(self, *, rows: int = 4) -> None:
        super().__init__(
            {"class": "m-code", "rows": rows, "spellcheck": "false", "autocapitalize": "off"}
        )


class SuggestInput(UnfoldAdminTextInputWidget):  # type: ignore[misc]
    """Free text with suggestions from a datalist."""

    def __init__(self, suggestions: Iterable[str]) -> None:
        super().__init__({"autocomplete": "off"})
        self.suggestions = sorted(set(suggestions))

    def render(
        self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None
    ) -> SafeString:
        list_id = f"suggest-{name}"
        field = super().render(name, value, {**(attrs or {}), "list": list_id}, renderer)
        options = format_html_join("", '<option value="{}">', ((s,) for s in self.suggestions))
        return format_html('{}<datalist id="{}">{}</datalist>', field, list_id, options)


class Chips(UnfoldAdminCheckboxSelectMultipleWidget):  # type: ignore[misc]
    """Check boxes in a row, styled as chips."""

    def __init__(self) -> None:
        super().__init__(attrs={"class": "m-chip-box"})


class PlainTextField(forms.CharField):
    """Text as it was typed: nothing stripped, and empty text means "left out"."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", TextArea({"rows": 3}))
        super().__init__(**{"required": False, "strip": False, "empty_value": None, **kwargs})

    def to_python(self, value: Any) -> Any:
        # Browsers send every line's end as CR LF.
        text = value.replace("\r\n", "\n") if isinstance(value, str) else value
        return super().to_python(text)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return (self.to_python(initial) or "") != (self.to_python(data) or "")


class JsonField(forms.JSONField):
    """JSON whose faults are named by line and column, shown again just as it was typed."""

    def __init__(self, *, rows: int = 4, kind: type | None = dict, **kwargs: Any) -> None:
        self.kind = kind
        super().__init__(**{"required": False, "widget": CodeArea(rows=rows), **kwargs})

    def to_python(self, value: Any) -> Any:
        if value in self.empty_values or (isinstance(value, str) and not value.strip()):
            return None
        parsed = parse_json(value)
        if self.kind is dict and not isinstance(parsed, dict):
            raise ValidationError('Write a JSON object, such as {"name": "value"}.')
        return parsed

    def bound_data(self, data: Any, initial: Any) -> Any:
        return initial if self.disabled else InvalidJSONInput(data or "")

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, InvalidJSONInput):
            return value
        return "" if value is None else json.dumps(value, ensure_ascii=False, indent=2)

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            given = self.to_python(data)
        except ValidationError:
            return True
        # Not by equality of values, to which the order of keys is nothing.
        return json.dumps(given) != json.dumps(initial if initial != {} else None)


def parse_json(text: str) -> Any:
    """The value of a JSON text, or a ValidationError that says where it is wrong."""
    try:
        value = json.loads(text, object_pairs_hook=_unique)
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
        written.encode()
    except json.JSONDecodeError as error:
        message = f"Not JSON: line {error.lineno}, column {error.colno}: {error.msg}."
        raise ValidationError(message) from error
    except RecursionError as error:
        raise ValidationError("Nested too deeply; flatten it.") from error
    except ValueError as error:
        raise ValidationError(f"Not storable as JSON: {error}.") from error
    if _ZERO.search(written):
        raise ValidationError("The zero character cannot be stored.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return mapping


class OpenChoiceField(forms.MultipleChoiceField):
    """Several of some names; a name that is not, or no longer, on offer is kept too."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": False, "widget": Chips(), **kwargs})

    def valid_value(self, value: str) -> bool:
        return True


def offer(form: forms.BaseForm, field: str, names: Iterable[str], *, chosen: Iterable[str]) -> None:
    """Give an `OpenChoiceField` of a form its names: those on offer, and those it has."""
    open_field: Any = form.fields[field]
    open_field.choices = [(name, name) for name in dict.fromkeys([*names, *chosen])]


def choice_field(choices: Mapping[str, str], *, current: str | None, **kwargs: Any) -> Any:
    """One of some values; a stored one that is not on offer stays choosable.

    `empty` says what leaving it open means; without it a choice is made.
    """
    empty = kwargs.pop("empty", None)
    offered = [*([("", empty)] if empty else []), *choices.items()]
    if current and current not in choices:
        offered.append((current, f"{current} (not known here)"))
    return forms.TypedChoiceField(
        choices=offered,
        required=False,
        empty_value=None,
        widget=UnfoldAdminSelectWidget(),
        **kwargs,
    )
