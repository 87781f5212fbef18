from typing import Any

from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from tenants.principals import Principal

_PROBLEMS = {
    "malformed": "Send `Authorization: Bearer <key>`; a key begins with mk_.",
    "unknown": "This API key is not known here.",
    "revoked": "This API key was revoked; create a new one.",
    "expired": "This API key has expired; create a new one.",
}


class PrincipalAuthentication(BaseAuthentication):
    """Takes over what the tenant middleware found; it had to look before the scope opened."""

    def authenticate(self, request: Request) -> tuple[Principal, Any] | None:
        problem = getattr(request._request, "key_problem", None)
        if problem:
            raise AuthenticationFailed(_PROBLEMS[problem])
        principal = getattr(request._request, "principal", None)
        if principal is None:
            return None
        if principal.actor_kind == "user":
            _check_csrf(request)
        return principal, None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="muster"'


def _check_csrf(request: Request) -> None:
    # A session rides along with any cross-site form post; a bearer key does not.
    SessionAuthentication().enforce_csrf(request)
