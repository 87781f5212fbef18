"""What the application's roles may write, tried by raw SQL."""

import io
import uuid

import pytest
from django.core.management import call_command
from django.db import ProgrammingError, connections
from django.test import Client
from django.urls import reverse

from tenants.models import AuditEntry, User
from tenants.privileges import grant_after_migrate
from tests.world import World

WRITES = "INSERT, UPDATE, DELETE"
WRITABLE_COLUMNS = """
SELECT count(*) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
   AND (has_column_privilege('muster_app', attrelid, attnum, 'INSERT')
     OR has_column_privilege('muster_app', attrelid, attnum, 'UPDATE'))
"""


def answer(query: str, *arguments: object, alias: str = "owner") -> object:
    with connections[alias].cursor() as cursor:
        cursor.execute(query, arguments)
        return cursor.fetchone()[0]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenant SET status = 'active'",
        "UPDATE tenant SET uses_environment_credentials = true, slug = 'mine'",
        "UPDATE user_account SET is_superuser = true",
        "UPDATE user_account SET password = 'known'",
        "INSERT INTO user_account_groups DEFAULT VALUES",
        "DELETE FROM user_account",
        "DELETE FROM django_migrations",
        "UPDATE platform_price SET input_usd = 0",
        "TRUNCATE project CASCADE",
    ],
)
def test_application_cannot_lift_itself(acme: World, statement: str) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"), acme.scope():
        answer(statement + " RETURNING 1" * ("TRUNCATE" not in statement), alias="default")


@pytest.mark.parametrize("alias", ["default", "system"])
@pytest.mark.parametrize("change", ["agent_message SET content", "context_value SET value"])
def test_what_agents_have_said_is_nobody_s_to_change(acme: World, change: str, alias: str) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"), acme.scope():
        answer(f"UPDATE {change} = 'null' RETURNING 1", alias=alias)


def test_application_writes_what_belongs_to_tenants_alone(live_db: None) -> None:
    writable = answer(
        """
        SELECT array_agg(relname::text) FROM pg_class c
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
          AND has_table_privilege('muster_app', c.oid, %s) AND NOT EXISTS
              (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'tenant_id')
        """,
        WRITES,
    )

    assert writable == ["django_session"]


def test_migrating_again_takes_back_what_was_granted_by_hand(live_db: None) -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute("GRANT UPDATE (is_superuser) ON user_account TO muster_app")
        cursor.execute("GRANT INSERT ON django_migrations TO muster_app")

    for _ in range(2):
        grant_after_migrate(using="owner")

    assert answer(WRITABLE_COLUMNS, "user_account") == 0
    assert answer(WRITABLE_COLUMNS, "django_migrations") == 0
    assert answer("SELECT has_table_privilege('muster_app', 'project', %s)", WRITES) is True


def test_log_in_is_noted_in_the_account(acme: World) -> None:
    acme.browser()

    assert User.objects.get(pk=acme.owner.pk).last_login is not None


def test_member_changes_the_own_password(acme: World) -> None:
    fresh = f"fresh-{uuid.uuid4().hex}"

    changed = acme.browser().post(
        reverse("admin:password_change"),
        {"old_password": "secret", "new_password1": fresh, "new_password2": fresh},
    )

    assert changed.status_code == 302
    assert Client().login(username=acme.owner.username, password=fresh)


def operator() -> tuple[User, Client]:
    user = User.objects.create_superuser(f"op-{uuid.uuid4().hex}", password="secret")
    client = Client()
    client.force_login(user)
    return user, client


def test_operators_change_of_an_account_is_signed(acme: World) -> None:
    person, client = operator()
    url = reverse("admin:tenants_user_change", args=[acme.owner.pk])

    assert client.post(url, {"username": acme.owner.username, "email": "a@b.co"}).status_code == 302

    changes = AuditEntry.objects.using("system").filter(
        action="user_account.changed", object_id=str(acme.owner.pk)
    )
    assert changes.get().actor_label == person.username
    assert changes.get().after == {"email": "a@b.co", "is_active": False}


def test_operator_makes_an_account_and_sets_its_password(acme: World) -> None:
    _, client = operator()
    # Two random texts of hexadecimal digits may be too similar for the rule on passwords.
    name, first, second = f"new-{uuid.uuid4().hex}", "quartz judges vow", "sphinx of black"

    client.post(
        reverse("admin:tenants_user_add"),
        {"username": name, "usable_password": "true", "password1": first, "password2": first},
    )
    made = User.objects.get(username=name)
    client.post(
        reverse("admin:auth_user_password_change", args=[made.pk]),
        {"usable_password": "true", "password1": second, "password2": second},
    )

    assert Client().login(username=name, password=second)


def password_changes(person: User) -> list[AuditEntry]:
    return list(
        AuditEntry.objects.using("system").filter(
            action="user_account.password_changed", object_id=str(person.pk)
        )
    )


def test_change_of_the_own_password_is_audited_without_it(acme: World) -> None:
    fresh = f"fresh-{uuid.uuid4().hex}"

    acme.browser().post(
        reverse("admin:password_change"),
        {"old_password": "secret", "new_password1": fresh, "new_password2": fresh},
    )

    (entry,) = password_changes(acme.owner)
    assert (entry.actor_kind, entry.actor_label) == ("user", acme.owner.username)
    assert (entry.tenant_id, entry.ip) == (None, "127.0.0.1")
    assert (entry.before, entry.after) == ({"usable_password": True}, {"usable_password": True})


def test_operators_change_of_anothers_password_is_audited(acme: World) -> None:
    person, client = operator()
    fresh = f"fresh-{uuid.uuid4().hex}"

    client.post(
        reverse("admin:auth_user_password_change", args=[acme.owner.pk]),
        {"usable_password": "true", "password1": fresh, "password2": fresh},
    )

    (entry,) = password_changes(acme.owner)
    assert entry.actor_label == person.username


def test_password_taken_away_is_audited_as_that(acme: World) -> None:
    _, client = operator()

    client.post(
        reverse("admin:auth_user_password_change", args=[acme.owner.pk]),
        {"usable_password": "false", "unset-password": ""},
    )

    (entry,) = password_changes(acme.owner)
    assert entry.after == {"usable_password": False}


def test_log_in_is_no_change_of_a_password(acme: World) -> None:
    acme.browser()

    assert password_changes(acme.owner) == []


def test_operator_sets_and_removes_a_price(acme: World) -> None:
    person, client = operator()
    model = f"m-{uuid.uuid4().hex}"
    price = {"provider": "local", "model": model, "input_usd": "1", "output_usd": "1"}

    client.post(reverse("admin:costs_platformprice_add"), {**price, "valid_from": "2026-01-01"})
    made = answer("SELECT id FROM platform_price WHERE model = %s", model)
    client.post(reverse("admin:costs_platformprice_delete", args=[made]), {"post": "yes"})

    signed = AuditEntry.objects.using("system").filter(object_id=str(made))
    assert {entry.actor_label for entry in signed} <= {person.username}
    assert answer("SELECT count(*) FROM platform_price WHERE model = %s", model) == 0


def test_djangos_own_command_makes_an_operator(
    live_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"op-{uuid.uuid4().hex}"
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "secret")

    call_command(
        "createsuperuser", interactive=False, username=name, email="a@b.co", stdout=io.StringIO()
    )

    assert User.objects.get(username=name).is_superuser


def test_refused_tenant_leaves_no_account(acme: World) -> None:
    from django.core.management import CommandError

    name = f"peter-{uuid.uuid4().hex}"
    with pytest.raises(CommandError, match="exists already"):
        call_command("create_tenant", acme.tenant.slug, "--owner", name, stderr=io.StringIO())

    assert not User.objects.filter(username=name).exists()
