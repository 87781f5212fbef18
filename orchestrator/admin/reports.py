"""Puts the problems of a draft at the fields of its forms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.admin.workflow_forms import is_described
from orchestrator.core.problems import Problem

_AGENT_FIELDS = {"type": "agent_type", "role": "agent_role"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A problem, and the id of the field on the page that it stands at, if there is one."""

    problem: Problem
    field_id: str
    step: str


def show_at_fields(
    problems: Sequence[Problem], *, header: Any, steps: Sequence[Any]
) -> list[Shown]:
    """Add each problem to the form it is about, and tell where it went."""
    by_name = {form.instance.name: form for form in steps if form.instance.name}
    return [_show(problem, header=header, by_name=by_name) for problem in problems]


def _show(problem: Problem, *, header: Any, by_name: Mapping[str, Any]) -> Shown:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in problem.loc.split("/")[1:]]
    if parts[:1] != ["steps"]:
        return Shown(problem, _add(header, problem, _header_place(parts, header)), "")
    name = parts[1] if len(parts) > 1 else ""
    if name not in by_name:
        return Shown(problem, "", name)
    form = by_name[name]
    return Shown(problem, _add(form, problem, _step_place(parts[2:], form)), name)


def _header_place(parts: list[str], form: Any) -> tuple[str | None, list[str]]:
    if not parts:
        return None, []
    return (parts[0], parts[1:]) if parts[0] in form.fields else ("settings", parts)


def _step_place(parts: list[str], form: Any) -> tuple[str | None, list[str]]:
    if not parts:
        return None, []
    if parts[0] == "agent":
        return _agent_place(parts[1:], form)
    return (parts[0], parts[1:]) if parts[0] in form.fields else ("settings", parts)


def _agent_place(parts: list[str], form: Any) -> tuple[str, list[str]]:
    if not parts or not is_described(form.instance.agent):
        return "agent_source", parts
    field = _AGENT_FIELDS.get(parts[0])
    return (field, parts[1:]) if field else ("agent_more", parts)


def _add(form: Any, problem: Problem, place: tuple[str | None, list[str]]) -> str:
    field, rest = place
    # Where in a list or an object the fault lies, unless the field says it all.
    where = ".".join(part for part in rest if not part.isdecimal())
    message = f"{where}: {problem.message}" if where else problem.message
    if not form.is_bound and not hasattr(form, "cleaned_data"):
        form.cleaned_data = {}  # `add_error` takes out of it what turns out wrong
    form.add_error(field, message)
    return form[field].id_for_label or form[field].auto_id if field else ""
