from django.db.models import QuerySet

from tenants.models import ApiKey
from tenants.principals import Principal

# The key itself, those made with it, those made with them, and so on.
FAMILY = """
WITH RECURSIVE family AS (
    SELECT id FROM api_key WHERE id = %(key)s
    UNION
    SELECT made.id FROM api_key made JOIN family ON made.made_by_id = family.id
)
"""
_OTHERS = (
    FAMILY
    + """
SELECT api_key.* FROM api_key JOIN family USING (id)
 WHERE id <> %(key)s AND revoked_at IS NULL ORDER BY id
"""
)


def api_keys_of(principal: Principal) -> QuerySet[ApiKey]:
    """The tenant's keys; for a narrowed key, those of its project."""
    keys = ApiKey.objects.select_related("project")
    return keys if principal.project_id is None else keys.filter(project_id=principal.project_id)


def keys_that_end_with(key: ApiKey) -> list[ApiKey]:
    """What revoking the key would revoke besides."""
    return list(ApiKey.objects.raw(_OTHERS, {"key": key.id}))
