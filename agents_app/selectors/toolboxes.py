"""Which tools a tenant has."""

from uuid import UUID

from agents_app.core.tools import Toolbox
from agents_app.tools.builtin import BUILTIN_TOOLS


def toolbox_of(tenant_id: UUID) -> Toolbox:
    """All tools that agents of the tenant may be given."""
    return BUILTIN_TOOLS
