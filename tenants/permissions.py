from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.exceptions import NotFound
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from tenants.principals import Principal, has_scope

if TYPE_CHECKING:
    from rest_framework.views import APIView


class HasScope(BasePermission):
    """A view names its scopes as `read_scope` and `write_scope`; a view without them is shut."""

    message = "The key or role lacks the scope that this call needs."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not isinstance(request.user, Principal):
            return False
        if not _answers(view, request):
            return True  # the view goes on to say which methods it has
        safe = request.method in SAFE_METHODS
        needed = getattr(view, "read_scope" if safe else "write_scope", None)
        if needed is None:
            return False
        self.message = f"This call needs the scope {needed}."
        return has_scope(request.user, needed)


class OfWholeTenant(BasePermission):
    """Refuses keys that are narrowed to one project."""

    message = "This key is narrowed to one project; this call concerns the whole tenant."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return getattr(request.user, "project_id", None) is None


class WritesOfWholeTenant(OfWholeTenant):
    """Lets keys that are narrowed to one project look, but not change."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.method in SAFE_METHODS or super().has_permission(request, view)


class IsOperator(BasePermission):
    """For the platform's operators; to all others, single objects do not exist."""

    message = "Only an operator of the platform may do this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if getattr(request.user, "is_operator", False):
            return True
        if isinstance(request.user, Principal) and view.kwargs:
            raise NotFound
        return False


def _answers(view: APIView, request: Request) -> bool:
    return hasattr(view, (request.method or "").lower())
