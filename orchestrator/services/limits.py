"""Setting limits. What is saved counts in all processes within seconds."""

from typing import Any, ClassVar

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from agents_app.models import Agent
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.limits.rules import LimitDraft, limit_problems
from orchestrator.core.problems import Problem
from orchestrator.limits.scopes import forget
from orchestrator.models import PlatformRateLimit, RateLimit
from orchestrator.models.limits import LimitFields, LimitScope, PlatformScope

_WHAT = ("provider", "model", "unit", "period")
_OWN = ("scope", "project", "workflow", "agent", "credential", *_WHAT)
_OPERATORS = ("scope", "for_tenant", *_WHAT)


class RateLimitInvalidError(OrchestratorError):
    """A limit that makes no sense, or that there is already; all problems are listed."""

    code: ClassVar[str] = "rate_limit_invalid"

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(str(problem) for problem in self.problems)


def create_rate_limit(**fields: Any) -> RateLimit:
    row = RateLimit(**fields)
    _refuse_nonsense(row)
    row.save(force_insert=True)
    transaction.on_commit(forget)
    return row


def change_rate_limit(row: RateLimit, **changes: Any) -> RateLimit:
    """Change the limit. What it has granted already goes on to count."""
    for field, value in changes.items():
        setattr(row, field, value)
    _refuse_nonsense(row)
    row.save(update_fields=[*changes, "updated_at"])
    transaction.on_commit(forget)
    return row


def delete_rate_limit(row: RateLimit) -> None:
    row.delete()
    transaction.on_commit(forget)


def rate_limit_problems(row: RateLimit) -> list[Problem]:
    return [
        *_field_problems(row),
        *_scope_problems(row),
        *_doubled(row, RateLimit.objects.all(), _OWN),
    ]


def platform_limit_problems(row: PlatformRateLimit) -> list[Problem]:
    problems = _field_problems(row)
    if row.for_tenant_id is not None and row.scope != PlatformScope.TENANT:
        message = "Only a limit of scope tenant is for one tenant."
        problems.append(Problem("/for_tenant", "not_for_this_scope", message))
    if row.scope == PlatformScope.PROVIDER and not row.provider:
        problems.append(Problem("/provider", "required", "Say which provider."))
    rows = PlatformRateLimit.objects.using("system").all()
    return [*problems, *_doubled(row, rows, _OPERATORS)]


def _refuse_nonsense(row: RateLimit) -> None:
    problems = rate_limit_problems(row)
    if problems:
        raise RateLimitInvalidError(tuple(problems))


def _field_problems(row: LimitFields) -> list[Problem]:
    draft = LimitDraft(
        unit=row.unit,
        period=row.period,
        counting=row.counting,
        limit=row.limit,
        capacity=row.capacity,
        time_zone=row.time_zone,
        provider=row.provider,
        model=row.model,
    )
    problems = limit_problems(draft, usual_output=settings.LLM_MAX_TOKENS)
    if row.provider and row.provider not in settings.MUSTER_PROVIDERS:
        known = ", ".join(settings.MUSTER_PROVIDERS)
        problems.append(Problem("/provider", "unknown", f"There are: {known}."))
    return problems


def _scope_problems(row: RateLimit) -> list[Problem]:
    """The scope's own object has to be named, and no other."""
    named = {
        LimitScope.PROJECT: ("project", row.project_id is not None),
        LimitScope.WORKFLOW: ("workflow", row.workflow_id is not None),
        LimitScope.AGENT: ("agent", bool(row.agent)),
        LimitScope.CREDENTIAL: ("credential", row.credential_id is not None),
    }
    problems = []
    for scope, (field, is_given) in named.items():
        if scope == row.scope and not is_given:
            problems.append(Problem(f"/{field}", "required", f"Say which {field}."))
        elif scope != row.scope and is_given:
            message = f"A limit of scope {row.scope} names no {field}."
            problems.append(Problem(f"/{field}", "not_for_this_scope", message))
    if row.agent and not Agent.objects.filter(slug=row.agent).exists():
        problems.append(Problem("/agent", "not_found", f"There is no agent {row.agent!r} here."))
    return problems


def _doubled(row: Any, rows: QuerySet[Any], fields: tuple[str, ...]) -> list[Problem]:
    same = {field: getattr(row, field) for field in fields if getattr(row, field) is not None}
    empty = {f"{field}__isnull": True for field in fields if getattr(row, field) is None}
    if rows.filter(**same, **empty).exclude(pk=row.pk).exists():
        message = "There is a limit on this unit and period for the same scope; change that one."
        return [Problem("/unit", "already_exists", message)]
    return []
