"""What changed between versions of a workflow, its draft among them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.core.diff import SpecDiff, diff
from orchestrator.core.diff_text import diff_text
from orchestrator.models import Workflow
from orchestrator.services.drafts import draft_spec
from orchestrator.services.errors import NotPublishedError
from tenants.services.errors import NotFoundError

DRAFT = "draft"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDiff:
    """`before` and `after` are the numbers of versions, or None for the draft."""

    before: int | None
    after: int | None
    changes: SpecDiff
    text: str


def version_diff(
    workflow: Workflow, *, before: int | None = None, after: int | None = None
) -> VersionDiff:
    """From one version to another; to the draft if `after` is None."""
    old, new = _spec(workflow, before, "/from"), _spec(workflow, after, "/to")
    return VersionDiff(
        before=before,
        after=after,
        changes=diff(old, new),
        text=diff_text(old, new, before_name=_named(before), after_name=_named(after)),
    )


def current_number(workflow: Workflow) -> int:
    """The version that runs use. Raises NotPublishedError."""
    if workflow.current_version is None:
        raise NotPublishedError(workflow.name)
    number: int = workflow.current_version.number
    return number


def _spec(workflow: Workflow, number: int | None, loc: str) -> Mapping[str, Any]:
    if number is None:
        return draft_spec(workflow)
    spec = workflow.versions.filter(number=number).values_list("spec", flat=True).first()
    if spec is None:
        raise NotFoundError("version", f"{workflow.name}@{number}", loc)
    found: Mapping[str, Any] = spec
    return found


def _named(number: int | None) -> str:
    return DRAFT if number is None else f"version {number}"
