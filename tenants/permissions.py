from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from tenants.principals import has_scope


class HasScope(BasePermission):
    """A view names its scopes as `read_scope` and `write_scope`; a view without them is shut."""

    message = "The key or role lacks the scope that this call needs."

    def has_permission(self, request: Request, view: APIView) -> bool:
        safe = request.method in SAFE_METHODS
        needed = getattr(view, "read_scope" if safe else "write_scope", None)
        if needed is None:
            return False
        self.message = f"This call needs the scope {needed}."
        return has_scope(request.user, needed)
