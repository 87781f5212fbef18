from typing import ClassVar

from tenants.kernel.errors import PlatformError


class TenantScopeError(PlatformError):
    """A tenant's row was asked for outside a scope, or from within another tenant's."""

    code: ClassVar[str] = "tenant_scope"


class TenantSuspendedError(PlatformError):
    """The tenant may look but not start anything."""

    code: ClassVar[str] = "tenant_suspended"

    def __init__(self, tenant: str, reason: str = "") -> None:
        super().__init__(tenant, reason)
        self.tenant, self.reason = tenant, reason

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"Tenant {self.tenant} is suspended{why}. New runs are refused; ask the operator."
