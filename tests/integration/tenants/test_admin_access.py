import uuid

import pytest
from django.test import Client
from django.urls import reverse

from tenants.models import AuditEntry, Membership, Project, Tenant, User
from tenants.roles import Role
from tests.factories import make_tenant
from tests.world import World


def person(*, superuser: bool = False) -> tuple[User, Client]:
    user = User.objects.create_user(
        f"p-{uuid.uuid4().hex}", password="secret", is_superuser=superuser
    )
    client = Client()
    client.force_login(user)
    return user, client


def switch(client: Client, world: World) -> int:
    return client.post(reverse("admin:switch_tenant"), {"tenant": world.tenant.id}).status_code


def test_member_logs_in_without_being_staff(acme: World) -> None:
    client = Client()

    answer = client.post(
        reverse("admin:login"),
        {"username": acme.owner.username, "password": "secret"},
        follow=True,
    )

    assert "Three steps to a first run" in answer.content.decode()


def test_person_without_a_tenant_is_told_what_to_do(live_db: None) -> None:
    _, client = person()

    answer = client.get(reverse("admin:index"))

    assert "nobody has made you a member" in answer.content.decode()


def test_person_without_a_tenant_sees_no_list(live_db: None) -> None:
    _, client = person()

    assert client.get(reverse("admin:orchestrator_run_changelist")).status_code == 403


@pytest.mark.parametrize(
    ("role", "page", "status"),
    [
        (Role.VIEWER, "orchestrator_workflow_changelist", 200),
        (Role.VIEWER, "orchestrator_workflow_add", 403),
        (Role.VIEWER, "agents_app_agent_add", 403),
        (Role.VIEWER, "tenants_apikey_changelist", 403),
        (Role.EDITOR, "orchestrator_workflow_add", 200),
        (Role.EDITOR, "tenants_project_add", 403),
        (Role.EDITOR, "tenants_membership_changelist", 403),
        (Role.ADMIN, "tenants_project_add", 200),
        (Role.ADMIN, "tenants_apikey_add", 200),
        (Role.ADMIN, "costs_tenantprice_changelist", 200),
        (Role.OWNER, "costs_tenantprice_add", 403),
        (Role.ADMIN, "tenants_tenant_changelist", 404),
        (Role.OWNER, "tenants_user_changelist", 404),
        (Role.OWNER, "costs_platformprice_changelist", 404),
    ],
)
def test_role_decides_which_pages_open(live_db: None, role: str, page: str, status: int) -> None:
    world = make_tenant("acme", role=role)

    assert world.browser().get(reverse(f"admin:{page}")).status_code == status


def test_pages_follow_the_tenant_that_was_chosen(acme: World, globex: World) -> None:
    with globex.scope():
        Membership.objects.create(user=acme.owner, role=Role.VIEWER)
        Project.objects.create(slug="far", name="Far away")
    client = acme.browser()

    assert switch(client, globex) == 302

    assert "Far away" in client.get(reverse("admin:tenants_project_changelist")).content.decode()


def test_nobody_switches_to_a_tenant_that_is_not_theirs(acme: World, globex: World) -> None:
    client = acme.browser()

    assert switch(client, globex) == 404
    assert client.get(reverse("admin:index")).context["tenant_here"].tenant_id == acme.tenant.id


def test_switching_is_a_post(acme: World) -> None:
    assert acme.browser().get(reverse("admin:switch_tenant")).status_code == 405


@pytest.mark.parametrize("onward", ["https://evil.example", "//evil.example", "javascript:1"])
def test_switching_leads_to_our_own_pages_only(acme: World, onward: str) -> None:
    answer = acme.browser().post(
        reverse("admin:switch_tenant"), {"tenant": acme.tenant.id, "next": onward}
    )

    assert answer["Location"] == reverse("admin:index")


def test_operators_visit_is_audited_in_the_tenant(acme: World) -> None:
    user, client = person(superuser=True)

    switch(client, acme)

    with acme.scope():
        entry = AuditEntry.objects.get(tenant=acme.tenant, action="tenant.entered")
    assert (entry.actor_label, entry.object_id) == (user.username, str(acme.tenant.id))


def test_operator_makes_a_tenant_with_a_first_project(acme: World) -> None:
    _, client = person(superuser=True)
    slug = f"new-{uuid.uuid4().hex[:8]}"

    client.post(reverse("admin:tenants_tenant_add"), {"name": "New", "slug": slug, "weight": "1"})

    made = Tenant.objects.using("system").get(slug=slug)
    assert Project.objects.db_manager("system").filter(tenant=made).count() == 1


def test_slug_of_another_tenant_is_refused_at_its_field(acme: World, globex: World) -> None:
    _, client = person(superuser=True)
    switch(client, globex)

    answer = client.post(
        reverse("admin:tenants_tenant_add"), {"name": "Twin", "slug": acme.tenant.slug}
    )

    assert "slug" in answer.context["adminform"].form.errors


def test_operator_suspends_and_resumes(acme: World) -> None:
    user, client = person(superuser=True)

    suspend = reverse("admin:tenants_tenant_suspend", args=[acme.tenant.pk])
    client.post(suspend, {"reason": "unpaid"})
    home = acme.browser().get(reverse("admin:index")).content.decode()
    client.post(reverse("admin:tenants_tenant_resume", args=[acme.tenant.pk]))

    assert "is suspended: unpaid" in home
    with acme.scope():
        entry = AuditEntry.objects.filter(tenant=acme.tenant, action="tenant.changed").first()
    assert (entry.actor_label, entry.after["status"]) == (user.username, "active")


def test_last_owner_cannot_be_demoted(acme: World) -> None:
    with acme.scope():
        member = Membership.objects.get(user=acme.owner)

    answer = acme.browser().post(
        reverse("admin:tenants_membership_change", args=[member.pk]), {"role": "viewer"}
    )

    assert "last owner" in str(answer.context["adminform"].form.errors["role"])


def test_admin_makes_nobody_an_owner(live_db: None) -> None:
    world = make_tenant("acme", role=Role.ADMIN)
    newcomer, _ = person()

    answer = world.browser().post(
        reverse("admin:tenants_membership_add"), {"username": newcomer.username, "role": "owner"}
    )

    assert "role" in answer.context["adminform"].form.errors


def test_member_is_added_by_the_name_of_the_account(acme: World) -> None:
    newcomer, client = person()

    acme.browser().post(
        reverse("admin:tenants_membership_add"), {"username": newcomer.username, "role": "editor"}
    )

    assert client.get(reverse("admin:orchestrator_workflow_add")).status_code == 200


def test_project_slug_twice_is_refused_at_its_field(acme: World) -> None:
    answer = acme.browser().post(
        reverse("admin:tenants_project_add"), {"name": "Again", "slug": acme.project.slug}
    )

    assert "slug" in answer.context["adminform"].form.errors


def test_history_shows_what_the_database_recorded(acme: World) -> None:
    client = acme.browser()
    url = reverse("admin:tenants_project_change", args=[acme.project.pk])
    client.post(url, {"name": "Renamed", "slug": "main", "description": ""})

    page = client.get(reverse("admin:tenants_project_history", args=[acme.project.pk]))

    assert "Renamed" in page.content.decode()
    assert acme.owner.username in page.content.decode()


def test_forged_note_cannot_look_like_a_change(acme: World) -> None:
    from django.db import ProgrammingError

    from tenants.services.notes import note

    with pytest.raises(ProgrammingError, match="not a note"), acme.scope():
        note("project.changed", object_type="project", object_id=acme.project.id)


def test_refusals_are_pages_for_people(acme: World) -> None:
    nowhere = acme.browser().get("/admin/nowhere/")
    not_allowed = make_tenant("acme", role=Role.VIEWER).browser().get("/admin/tenants/project/add/")

    assert "There is nothing here" in nowhere.content.decode()
    assert "Your role does not allow this" in not_allowed.content.decode()


def test_refused_deletion_is_told_on_the_list(acme: World) -> None:
    with acme.scope():
        member = Membership.objects.get(user=acme.owner)

    answer = acme.browser().post(
        reverse("admin:tenants_membership_delete", args=[member.pk]), {"post": "yes"}, follow=True
    )

    assert "last owner" in answer.content.decode()
    with acme.scope():
        assert Membership.objects.filter(pk=member.pk).exists()
