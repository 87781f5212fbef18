"""Every error as one problem document (RFC 9457), with all that is wrong at once."""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import IntegrityError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.views import defaults
from psycopg.errors import ForeignKeyViolation, UniqueViolation
from rest_framework import exceptions as drf

from agents_app.selectors.memory import ExportTooLargeError
from agents_app.services.agents import AgentRefusedError
from agents_app.services.memory import MemoryInvalidError
from agents_app.services.tool_grants import ToolSettingsRefusedError
from costs.core.errors import TooManyGroupsError
from orchestrator.core.errors import SpecSyntaxError, WorkflowInvalidError
from orchestrator.core.problems import Problem, pointer
from orchestrator.selectors.runs import RunNotFinishedError
from orchestrator.services.approvals import (
    ApprovalClosedError,
    FormInvalidError,
    NotApproverError,
)
from orchestrator.services.batches import BatchStateError
from orchestrator.services.budgets import (
    OperatorsBudgetError,
    RunBudgetError,
    TimeZoneUnknownError,
)
from orchestrator.services.control import NotAskedError, RunStateError
from orchestrator.services.deletion import WorkflowBusyError
from orchestrator.services.errors import InputInvalidError, NotPublishedError
from orchestrator.services.limits import RateLimitInvalidError
from orchestrator.services.objectives import NothingPlannedError, PlannerUnclearError
from orchestrator.services.plan_prices import CapTooSmallError
from orchestrator.services.prompt_templates import PromptTemplateInvalidError
from tenants import idempotency
from tenants.api.openapi import PROBLEM
from tenants.errors import EncryptionOffError, TenantSuspendedError
from tenants.kernel.errors import PlatformError
from tenants.services import errors as services

API_ROOT = "/api/"
_NO_PLACE = frozenset({"non_field_errors", "detail"})

STATUS: Mapping[type[BaseException], int] = {
    WorkflowInvalidError: 400,
    InputInvalidError: 400,
    FormInvalidError: 400,
    SpecSyntaxError: 400,
    AgentRefusedError: 400,
    MemoryInvalidError: 400,
    PromptTemplateInvalidError: 400,
    PlannerUnclearError: 400,
    ExportTooLargeError: 400,
    ToolSettingsRefusedError: 400,
    TooManyGroupsError: 400,
    RunBudgetError: 400,
    TimeZoneUnknownError: 400,
    RateLimitInvalidError: 400,
    services.AlreadyExistsError: 400,
    services.AmbiguousError: 400,
    services.SecretInvalidError: 400,
    services.AddressRefusedError: 400,
    services.KeylessProviderError: 400,
    idempotency.IdempotencyKeyInvalidError: 400,
    SuspiciousOperation: 400,
    CapTooSmallError: 402,
    TenantSuspendedError: 403,
    NotApproverError: 403,
    NotAskedError: 403,
    OperatorsBudgetError: 403,
    services.ScopeExceededError: 403,
    services.NarrowedKeyError: 403,
    services.OwnersOnlyError: 403,
    PermissionDenied: 403,
    services.NotFoundError: 404,
    Http404: 404,
    NotPublishedError: 409,
    NothingPlannedError: 409,
    RunNotFinishedError: 409,
    RunStateError: 409,
    BatchStateError: 409,
    WorkflowBusyError: 409,
    ApprovalClosedError: 409,
    services.KeyEndedError: 409,
    services.KeyReplacedError: 409,
    services.LastOwnerError: 409,
    services.ProjectNotEmptyError: 409,
    services.ProviderTakenError: 409,
    services.StillRotatingError: 409,
    services.NothingToRetireError: 409,
    services.UncheckableError: 409,
    idempotency.IdempotencyKeyInUseError: 409,
    RequestDataTooBig: 413,
    idempotency.IdempotencyKeyReusedError: 422,
    services.CheckTooSoonError: 429,
    OperationalError: 503,
    EncryptionOffError: 503,
}
_CODES = {
    400: "invalid_request",
    403: "permission_denied",
    404: "not_found",
    413: "too_large",
    500: "internal_error",
    503: "unavailable",
}
_DETAILS = {
    404: "There is nothing at this address, or it is not yours to see.",
    413: "The body is too large; at most 6 MB are read.",
    500: "Something broke on our side. The request id finds it in the logs.",
    503: "The database cannot be reached; try again soon.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error as its caller is told it."""

    status: int
    code: str
    detail: str
    errors: Sequence[Problem] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def problem_response(error: Exception, context: Mapping[str, Any]) -> HttpResponse | None:
    """Django REST framework's handler; None lets an unexpected error be logged and answer 500."""
    refusal = _refusal(error)
    return None if refusal is None else _document(refusal)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not request.path.startswith(API_ROOT):
        return defaults.page_not_found(request, exception)
    return _document(_plain(404))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not request.path.startswith(API_ROOT):
        return defaults.bad_request(request, exception)
    return _document(_refusal(exception) or _plain(400))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not request.path.startswith(API_ROOT):
        return defaults.permission_denied(request, exception)
    return _document(_plain(403))


def server_error(request: HttpRequest) -> HttpResponse:
    if not request.path.startswith(API_ROOT):
        return defaults.server_error(request)
    # Raised outside the view, where the scope is opened and committed.
    error = sys.exc_info()[1]
    refusal = _refusal(error) if isinstance(error, Exception) else None
    return _document(refusal or _plain(500))


def _refusal(error: Exception) -> Refusal | None:
    if isinstance(error, drf.ValidationError):
        return _invalid("invalid_input", tuple(_flat(error.get_full_details(), ())))
    if isinstance(error, drf.APIException):
        return _of_framework(error)
    if isinstance(error, IntegrityError):
        return _of_constraint(error)
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
    if status is None:
        return None
    if isinstance(error, PlatformError):
        return _of_platform(error, status)
    return _plain(status)


def problems_in(error: drf.ValidationError, *at: str | int) -> list[Problem]:
    """What the framework found wrong with a part of a body that stands at this place."""
    return list(_flat(error.get_full_details(), at))


def _of_platform(error: PlatformError, status: int) -> Refusal:
    problems = _problems_of(error)
    if status == 400 and problems:
        return _invalid(error.code, problems)
    wait = getattr(error, "retry_in_seconds", None)
    headers = {} if wait is None else {"Retry-After": str(wait)}
    return Refusal(
        status=status, code=error.code, detail=str(error), errors=problems, headers=headers
    )


def _problems_of(error: PlatformError) -> tuple[Problem, ...]:
    listed = getattr(error, "problems", None)
    if listed:
        return tuple(Problem(item.loc, item.code, item.message) for item in listed)
    loc = getattr(error, "loc", "")
    if loc or isinstance(error, SpecSyntaxError | WorkflowInvalidError):
        return (Problem(loc, error.code, str(error)),)
    return ()


def _of_framework(error: drf.APIException) -> Refusal:
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(math.ceil(wait))
    codes = error.get_codes()
    return Refusal(
        status=error.status_code,
        code=codes if isinstance(codes, str) else error.default_code,
        detail=str(error.detail),
        headers=headers,
    )


def _of_constraint(error: IntegrityError) -> Refusal | None:
    # Two requests at once; the checks before the write saw neither's row.
    if not isinstance(error.__cause__, UniqueViolation | ForeignKeyViolation):
        return None
    return Refusal(
        status=409, code="conflict", detail="Another request was faster; look and try again."
    )


def _invalid(code: str, problems: Sequence[Problem]) -> Refusal:
    count = len(problems)
    return Refusal(
        status=400,
        code=code,
        detail=f"{count} problem{'' if count == 1 else 's'}",
        errors=problems,
    )


def _flat(details: Any, at: tuple[str | int, ...]) -> Iterator[Problem]:
    """The framework's nested report as a list; a place in it becomes a JSON pointer."""
    if isinstance(details, list):
        for index, item in enumerate(details):
            # A list of messages belongs to one place; a list of reports to one place each.
            is_message = isinstance(item, Mapping) and set(item) == {"message", "code"}
            yield from _flat(item, at if is_message else (*at, index))
    elif isinstance(details, Mapping) and isinstance(details.get("message"), str):
        yield Problem(pointer(*at), str(details["code"]), str(details["message"]))
    elif isinstance(details, Mapping):
        for name, item in details.items():
            yield from _flat(item, at if name in _NO_PLACE else (*at, name))


def _plain(status: int) -> Refusal:
    code = _CODES[status]
    return Refusal(status=status, code=code, detail=_DETAILS.get(status, _title(code) + "."))


def _title(code: str) -> str:
    return code.replace("_", " ").capitalize()


def _document(refusal: Refusal) -> HttpResponse:
    bound = structlog.contextvars.get_contextvars()
    body = {
        "type": f"/problems/{refusal.code}",
        "title": _title(refusal.code),
        "status": refusal.status,
        "code": refusal.code,
        "detail": refusal.detail,
        "request_id": str(bound.get("request_id", "")),
        "errors": [asdict(problem) for problem in refusal.errors],
    }
    return HttpResponse(
        json.dumps(body), status=refusal.status, content_type=PROBLEM, headers=dict(refusal.headers)
    )
