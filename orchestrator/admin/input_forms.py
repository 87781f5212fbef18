"""What a JSON Schema asks for, as people fill it in: a field for each property, or one JSON box."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Self

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from orchestrator.core.input_fields import Field, Kind, Path, time_text, utc_text
from orchestrator.core.input_form import Group, assembled, fields_of, nearest
from orchestrator.core.problems import Problem
from tenants.admin_fields import JsonField, OpenChoiceField, PlainTextField, TextArea

_AT_INPUT = "/input"
_SHORT = 80
_WHOLE = re.compile(r"-?[0-9]{1,300}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,300}(?:\.[0-9]{1,300})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)


class RawInputForm(forms.Form):
    """The input as JSON. Whoever takes it asks its schema."""

    is_raw = True
    input = JsonField(rows=14, kind=None, required=False, label="Input (JSON)")

    def value(self) -> Any:
        given = self.cleaned_data["input"]
        return {} if given is None else given

    def show(self, problems: Sequence[Problem]) -> None:
        for problem in problems:
            place = ".".join(_parts(problem))
            self.add_error("input", f"{place}: {problem.message}" if place else problem.message)


class FieldInputForm(forms.Form):
    """A field for each property of the schema; what is wrong is shown where it stands."""

    is_raw = False

    def __init__(self, group: Group, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group
        # Numbered, since a property may have any name at all.
        self.names = {field.path: f"in-{at}" for at, field in enumerate(fields_of(group))}
        own = {self.names[field.path]: form_field(field) for field in fields_of(group)}
        self.fields = {**own, **self.fields}

    @classmethod
    def holding(cls, group: Group, values: Mapping[Path, Any], **others: Any) -> Self:
        """A form that nobody has touched yet, with these values of the input in it.

        `others` are those of the fields beside the input.
        """
        form = cls(group)
        form.initial = {**others, **_initial(form, values)}
        return form

    def value(self) -> dict[str, Any]:
        given = {path: self.cleaned_data[name] for path, name in self.names.items()}
        return assembled(self.group, {p: v for p, v in given.items() if v is not None})

    def show(self, problems: Sequence[Problem]) -> None:
        for problem in problems:
            parts = _parts(problem)
            field = nearest(self.group, parts)
            if field is None:
                place = ".".join(parts)
                self.add_error(None, f"{place}: {problem.message}" if place else problem.message)
                continue
            inside = ".".join(parts[len(field.path) :])
            message = f"{inside}: {problem.message}" if inside else problem.message
            self.add_error(self.names[field.path], message)

    def members(self) -> list["Shown"]:
        """The fields and groups in the schema's order, for the template."""
        return list(self._members(self.group))

    def _members(self, group: Group) -> Iterator["Shown"]:
        for member in group.members:
            if isinstance(member, Group):
                yield Shown(group=member, members=list(self._members(member)))
            else:
                yield Shown(field=self[self.names[member.path]], is_required=member.is_required)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A field, or a group with what is in it."""

    field: Any = None
    is_required: bool = False
    group: Group | None = None
    members: Sequence["Shown"] = ()


def _initial(form: FieldInputForm, values: Mapping[Path, Any]) -> dict[str, Any]:
    """What the fields of a form show for these values of the input."""
    return {
        form.names[field.path]: _shown(field, values[field.path])
        for field in fields_of(form.group)
        if field.path in values
    }


def _shown(field: Field, value: Any) -> Any:
    options = _options(field)
    if field.kind == Kind.CHOICES:
        return [options[json.dumps(one)] for one in value]
    if options:
        return options[json.dumps(value)]
    if field.kind == Kind.LINES:
        return "\n".join(value)
    # A browser's picker knows no time zone; the field is UTC's.
    return value.removesuffix("Z") if field.kind == Kind.DATE_TIME else value


class NumberField(PlainTextField):
    """A JSON number: whole if it is written so."""

    def __init__(self) -> None:
        super().__init__(widget=UnfoldAdminTextInputWidget({"inputmode": "decimal"}))

    def clean(self, value: Any) -> Any:
        text = (super().clean(value) or "").strip()
        if not text:
            return None
        number = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(number):
            raise ValidationError("Write a number, such as 3 or 0.5.")
        return int(text) if _WHOLE.fullmatch(text) else number


class LinesField(PlainTextField):
    """Texts, one per line; empty lines do not count."""

    def clean(self, value: Any) -> Any:
        return [line for line in (super().clean(value) or "").split("\n") if line] or None


class MomentField(PlainTextField):
    """A date or a time by the browser's own picker, as the text that JSON knows."""

    def __init__(self, kind: str, read: Callable[[str], str], such_as: str) -> None:
        super().__init__(widget=UnfoldAdminTextInputWidget({"type": kind, "step": "1"}))
        self.read, self.such_as = read, such_as

    def clean(self, value: Any) -> Any:
        text = (super().clean(value) or "").strip()
        try:
            return self.read(text) if text else None
        except (ValueError, OverflowError):
            raise ValidationError(f"Write it as {self.such_as}.") from None


class OptionsField(OpenChoiceField):
    """Several of some JSON values, each by its place among them."""

    def __init__(self, options: Sequence[Any]) -> None:
        self.options = options
        super().__init__(choices=_choices(options))

    def clean(self, value: Any) -> Any:
        chosen = set(super().clean(value))
        return [one for at, one in enumerate(self.options) if str(at) in chosen] or None


def form_field(field: Field) -> Any:
    """Left empty it gives None; whether it may be is for the schema to say."""
    made = _MAKERS[field.kind](field)
    made.label, made.help_text = field.label, _help(field)
    if isinstance(field.example, str | int | float):
        made.widget.attrs["placeholder"] = _written(field.example)
    if field.is_required:
        made.widget.attrs["aria-required"] = "true"
    return made


def _option_field(field: Field) -> Any:
    options = [True, False] if field.kind == Kind.BOOLEAN else list(field.options)
    return forms.TypedChoiceField(
        choices=[("", "-"), *_choices(options)],
        coerce=lambda place: options[int(place)],
        empty_value=None,
        required=False,
        widget=UnfoldAdminSelectWidget(),
    )


def _options(field: Field) -> dict[str, str]:
    """The place of each option, by its JSON."""
    options = (True, False) if field.kind == Kind.BOOLEAN else field.options
    return {json.dumps(option): str(place) for place, option in enumerate(options)}


def _choices(options: Sequence[Any]) -> list[tuple[str, str]]:
    return [(str(place), _written(option)) for place, option in enumerate(options)]


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _help(field: Field) -> str:
    notes = [field.help, _NOTES.get(field.kind, "")]
    written = "" if field.default is None else _written(field.default)
    if 0 < len(written) <= _SHORT:
        notes.append(f"Left empty: {written}")
    return " ".join(note for note in notes if note)


def _parts(problem: Problem) -> list[str]:
    place = problem.loc.removeprefix(_AT_INPUT)
    return [part.replace("~1", "/").replace("~0", "~") for part in place.split("/")[1:]]


def _utc(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return utc_text(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


_NOTES: Mapping[Kind, str] = {
    Kind.LINES: "One per line.",
    Kind.DATE_TIME: "In UTC.",
    Kind.JSON: "As JSON.",
}
_MAKERS: Mapping[Kind, Callable[[Field], Any]] = {
    Kind.TEXT: lambda _: PlainTextField(widget=UnfoldAdminTextInputWidget()),
    Kind.LONG_TEXT: lambda _: PlainTextField(widget=TextArea({"rows": 3})),
    Kind.DATE: lambda _: MomentField(
        "date", lambda text: date.fromisoformat(text).isoformat(), "2026-01-31"
    ),
    Kind.TIME: lambda _: MomentField(
        "time", lambda text: time_text(time.fromisoformat(text)), "18:30"
    ),
    Kind.DATE_TIME: lambda _: MomentField("datetime-local", _utc, "2026-01-31T18:30"),
    Kind.INTEGER: lambda _: NumberField(),
    Kind.NUMBER: lambda _: NumberField(),
    Kind.BOOLEAN: _option_field,
    Kind.CHOICE: _option_field,
    Kind.CHOICES: lambda field: OptionsField(field.options),
    Kind.LINES: lambda _: LinesField(widget=TextArea({"rows": 3})),
    Kind.JSON: lambda _: JsonField(kind=None, rows=4),
}
