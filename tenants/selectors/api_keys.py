from django.db.models import QuerySet

from tenants.models import ApiKey
from tenants.principals import Principal


def api_keys_of(principal: Principal) -> QuerySet[ApiKey]:
    """The tenant's keys; for a narrowed key, those of its project."""
    keys = ApiKey.objects.select_related("project")
    return keys if principal.project_id is None else keys.filter(project_id=principal.project_id)
