"""Opens the tenant's scope around a request: authentication, transaction, row-level security."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

import structlog
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from ipware import get_client_ip

from tenants.models import User
from tenants.principals import KEY_PREFIX, Principal, principal_of_key, principal_of_user
from tenants.scope import Actor, acting_as, tenant_scope

_View = TypeVar("_View", bound=Callable[..., object])
SESSION_TENANT = "tenant_id"
_EXEMPT = "opens_its_own_scope"


def opens_its_own_scope(view: _View) -> _View:
    """Mark a view that talks to the network or streams: no transaction is held around it."""
    setattr(view, _EXEMPT, True)
    return view


class TenantMiddleware:
    """Sets `request.principal` and runs the view, its rendering included, inside the scope.

    An exception or an error status rolls everything back. A request without a principal runs
    outside any scope, where a query for a tenant's rows raises.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        principal, key_problem = _authenticate(request)
        request.principal = principal  # type: ignore[attr-defined]
        request.key_problem = key_problem  # type: ignore[attr-defined]
        if principal is None:
            return self.get_response(request)
        structlog.contextvars.bind_contextvars(tenant_id=str(principal.tenant_id))
        with ExitStack() as stack:
            stack.enter_context(acting_as(_actor(request, principal)))
            if not _opens_its_own_scope(request):
                stack.enter_context(tenant_scope(principal.tenant_id))
            response = self.get_response(request)
            if response.status_code >= 400 and transaction.get_connection().in_atomic_block:
                transaction.set_rollback(True)
            return response


def _authenticate(request: HttpRequest) -> tuple[Principal | None, str | None]:
    """The caller, or None and what is wrong with the key that was sent."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme:
        if scheme.lower() != "bearer" or not key.strip().startswith(KEY_PREFIX):
            return None, "malformed"
        found = principal_of_key(key.strip())
        return (found, None) if isinstance(found, Principal) else (None, found)
    if isinstance(request.user, User) and request.user.is_active:
        wanted = request.session.get(SESSION_TENANT)
        return principal_of_user(request.user, wanted=wanted), None
    return None, None


def _actor(request: HttpRequest, principal: Principal) -> Actor:
    bound = structlog.contextvars.get_contextvars()
    return principal.actor(ip=_address(request), request_id=str(bound.get("request_id", "")))


def _address(request: HttpRequest) -> str:
    """Where the request came from; what a client says of itself counts only behind a proxy."""
    if not settings.TRUSTED_PROXY_COUNT:
        return str(request.META.get("REMOTE_ADDR", ""))
    address, _ = get_client_ip(request, proxy_count=settings.TRUSTED_PROXY_COUNT)
    return str(address or "")


def _opens_its_own_scope(request: HttpRequest) -> bool:
    try:
        view = resolve(request.path_info).func
    except Resolver404:
        return False
    return bool(getattr(view, _EXEMPT, False))
