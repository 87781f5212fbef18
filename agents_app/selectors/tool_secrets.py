"""Secrets of a tenant that its tools call others with, opened at the moment of the call."""

from uuid import UUID

from django.db import connection

from agents_app.core.errors import ToolSecretError
from tenants import encryption
from tenants.errors import EncryptionOffError, SecretUnreadableError
from tenants.scope import tenant_scope
from tenants.selectors.credentials import credential_for_tools


def tool_secret(tenant_id: UUID, name: str) -> str:
    """The newest secret of the tenant's credential of this name. Raises ToolSecretError.

    Only credentials that were made for tools are opened, never those for model providers.
    """
    try:
        with tenant_scope(tenant_id):
            found = credential_for_tools(name)
    finally:
        if not connection.in_atomic_block:
            connection.close()
    if found is None:
        raise ToolSecretError(name, "there is no enabled credential for tools of this name")
    try:
        return encryption.decrypted(found.secrets[0], owner=found.id)
    except (SecretUnreadableError, EncryptionOffError) as error:
        raise ToolSecretError(name, "its secret cannot be read; rotate it") from error
