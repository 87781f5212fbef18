from typing import ClassVar

from tenants.kernel.errors import PlatformError


class TenantScopeError(PlatformError):
    """A tenant's row was asked for outside a scope, or from within another tenant's."""

    code: ClassVar[str] = "tenant_scope"


class TenantSuspendedError(PlatformError):
    """The tenant may look but not start anything."""

    code: ClassVar[str] = "tenant_suspended"
