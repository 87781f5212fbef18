from django.db.models import QuerySet

from tenants.models import Membership


def members() -> QuerySet[Membership]:
    return Membership.objects.select_related("user")
