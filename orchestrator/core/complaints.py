"""What pydantic finds wrong, in words for the author of a workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from orchestrator.core.problems import Problem, did_you_mean, pointer
from orchestrator.core.spec import (
    AgentSpec,
    ApprovalSpec,
    Defaults,
    LoopSpec,
    MapSpec,
    Part,
    RetrySpec,
    StepSpec,
    WorkflowSpec,
)
from orchestrator.core.values import NAME_PATTERN, REF_PATTERN, SLUG_PATTERN

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_CODES: Final[Mapping[str, str]] = {
    "missing": "required",
    "extra_forbidden": "unknown_field",
    "literal_error": "not_one_of",
    "string_pattern_mismatch": "bad_format",
}
_PATTERNS: Final[Mapping[str, str]] = {
    NAME_PATTERN: "Use up to 63 lower-case letters, digits and _, beginning with a letter",
    SLUG_PATTERN: "Use up to 63 lower-case letters, digits, - and _, beginning and ending with "
    "a letter or digit",
    REF_PATTERN: "Write a workflow's name, or name@3 for its version 3",
}
_PARTS: Final[tuple[type[Part], ...]] = (
    WorkflowSpec,
    StepSpec,
    AgentSpec,
    LoopSpec,
    MapSpec,
    ApprovalSpec,
    RetrySpec,
    Defaults,
)
_FIELD_NAMES: Final = sorted({name for part in _PARTS for name in part.model_fields})
MESSAGES: Final[Mapping[str, str]] = {
    "string_type": "Write text here; quote it if it looks like a number",
    "int_type": "Write a whole number without quotes",
    "float_type": "Write a number without quotes",
    "bool_type": "Write true or false",
    "list_type": "Write a list, such as [a, b]",
    "dict_type": "Write a mapping of names to values",
    "model_type": "Write a mapping of names to values",
    "model_attributes_type": "Write a mapping of names to values",
}


def complaint(detail: ErrorDetails, *, data: object) -> Problem:
    kind = detail["type"]
    return Problem(
        _place(detail["loc"], data=data),
        _CODES.get(kind, "wrong_type" if kind.endswith("_type") else kind),
        _message(detail),
    )


def _place(loc: tuple[int | str, ...], *, data: object) -> str:
    """The pointer of a pydantic location: steps by name, without the tags of unions."""
    parts: list[int | str] = []
    node = data
    for part in loc:
        if parts[-1:] == ["agent"] and part in {"inline", "slug", "open"}:
            continue
        node = _child(node, part)
        is_step = isinstance(part, int) and parts[-1:] == ["steps"]
        name = _child(node, "name") if is_step else None
        parts.append(name if isinstance(name, str) else part)
    return pointer(*parts)


def _child(node: object, part: int | str) -> object:
    if isinstance(node, dict):
        return node.get(part)
    if isinstance(node, list) and isinstance(part, int) and part < len(node):
        return node[part]
    return None


def _message(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    subject = str(detail["loc"][-1]) if detail["loc"] else "The document"
    if kind == "missing":
        return f"{subject} is required"
    if kind == "extra_forbidden":
        return f"`{subject}` is not known here{_suggestion(subject)}"
    if kind == "literal_error":
        return f"Write one of {context['expected']}"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(context["pattern"]), detail["msg"])
    return MESSAGES.get(kind, detail["msg"].replace("Input should be", "Must be"))


def _suggestion(name: str) -> str:
    return did_you_mean(name, _FIELD_NAMES) or "; remove it"
