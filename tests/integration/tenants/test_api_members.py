from tenants.models import Membership, User
from tenants.roles import Role
from tests.rest import call, get, made
from tests.world import World


def member(world: World, role: str) -> str:
    with world.scope():
        user = User.objects.create_user(f"{role}-of-{world.tenant.slug}")
        return str(Membership.objects.create(user=user, role=role).id)


def first_owner(world: World) -> str:
    with world.scope():
        return str(Membership.objects.get(user=world.owner).id)


def test_owner_changes_a_role(acme: World) -> None:
    viewer = member(acme, Role.VIEWER)

    made(call(acme.browser(), "PATCH", f"members/{viewer}", {"role": "editor"}))

    assert made(get(acme.browser(), f"members/{viewer}"))["role"] == "editor"


def test_key_cannot_make_or_unmake_owners(acme: World) -> None:
    viewer, owner = member(acme, Role.VIEWER), first_owner(acme)

    raised = call(acme.client(), "PATCH", f"members/{viewer}", {"role": "owner"})
    removed = call(acme.client(), "DELETE", f"members/{owner}")

    assert (raised.status_code, raised.json()["code"]) == (403, "owners_only")
    assert removed.status_code == 403


def test_last_owner_stays(acme: World) -> None:
    owner = first_owner(acme)

    answer = call(acme.browser(), "DELETE", f"members/{owner}")

    assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")


def test_one_of_two_owners_may_go(acme: World) -> None:
    member(acme, Role.OWNER)

    answer = call(acme.browser(), "PATCH", f"members/{first_owner(acme)}", {"role": "viewer"})

    assert made(answer)["role"] == "viewer"
