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


class EncryptionOffError(PlatformError):
    """The platform has no key to encrypt secrets with."""

    code: ClassVar[str] = "encryption_off"

    def __str__(self) -> str:
        return "This platform cannot keep secrets: its operator has to set CREDENTIALS_KEYS."


class SecretUnreadableError(PlatformError):
    """A secret was encrypted with a key that is gone, or damaged since."""

    code: ClassVar[str] = "secret_unreadable"

    def __str__(self) -> str:
        return "The stored secret cannot be read any more; rotate the credential."
