"""Who works in a tenant, and as what. Owners are made and unmade by owners alone."""

from tenants.models import Membership
from tenants.principals import Principal
from tenants.roles import Role
from tenants.services.errors import LastOwnerError, OwnersOnlyError


def change_role(member: Membership, role: str, *, by: Principal) -> Membership:
    if role == member.role:
        return member
    _guard_owners(member, gains_owner=role == Role.OWNER, by=by)
    member.role = role
    member.save(update_fields=["role", "updated_at"])
    return member


def remove_member(member: Membership, *, by: Principal) -> None:
    _guard_owners(member, gains_owner=False, by=by)
    member.delete()


def _guard_owners(member: Membership, *, gains_owner: bool, by: Principal) -> None:
    loses_owner = member.role == Role.OWNER
    if (gains_owner or loses_owner) and by.role != Role.OWNER:
        raise OwnersOnlyError
    if not loses_owner:
        return
    # Locked, or two owners could each remove the other.
    owners = Membership.objects.filter(role=Role.OWNER).select_for_update().order_by("id")
    if [owner.id for owner in owners] == [member.id]:
        raise LastOwnerError
