"""The pages of credentials and providers."""

from typing import Any

import pytest
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from tenants import encryption
from tenants.models import Credential, ProviderCheck
from tenants.selectors.credentials import serving_credentials
from tenants.services.credentials import create_credential
from tests.factories import make_tenant
from tests.world import World

OLD = "sk-acme-old-0123456789-aaaa"
NEW = "sk-acme-new-0123456789-bbbb"


def add(client: Client, **fields: Any) -> HttpResponse:
    given = {"name": "main", "provider": "openai", "new_secret": OLD, "enabled": "on", **fields}
    return client.post(reverse("admin:tenants_credential_add"), given)


def press(client: Client, row: Credential, page: str, **fields: str) -> str:
    url = reverse(f"admin:tenants_credential_{page}", args=[row.pk])
    return client.post(url, fields, follow=True).content.decode()


def kept(world: World, **facts: Any) -> Credential:
    with world.scope():
        return create_credential(**{"name": "main", "provider": "openai", "secret": OLD, **facts})


def secrets_of(world: World) -> list[str]:
    with world.scope():
        (row,) = serving_credentials().values()
    return [encryption.decrypted(token, owner=row.id) for token in row.secrets]


def test_credential_is_added_and_its_secret_not_shown_again(acme: World) -> None:
    client = acme.browser()

    assert add(client, role_models='{"planner": "gpt-5"}').status_code == 302

    assert secrets_of(acme) == [OLD]
    with acme.scope():
        row = Credential.objects.get()
    assert row.role_models == {"planner": "gpt-5"}
    for url in (
        reverse("admin:tenants_credential_changelist"),
        reverse("admin:tenants_credential_change", args=[row.pk]),
        reverse("admin:tenants_credential_history", args=[row.pk]),
    ):
        page = client.get(url).content.decode()
        assert OLD not in page
        assert "aaaa" in page


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"new_secret": f" {OLD}"}, "holds a space"),
        ({"new_secret": OLD[:5]}, "has to have 8 to"),
        ({"provider": "nonsense"}, "Select a valid choice"),
        ({"base_url": "https://api.example.com"}, "cannot be chosen for openai"),
        ({"provider": "compatible", "base_url": "https://10.0.0.1"}, "private network"),
        ({"role_models": '{"boss": "x"}'}, "no role or complexity boss"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_kept(
    acme: World, fields: dict[str, str], said: str
) -> None:
    answer = add(acme.browser(), **fields)

    page = answer.content.decode()
    assert answer.status_code == 200
    assert said in page
    assert OLD not in page
    with acme.scope():
        assert not Credential.objects.exists()


def test_second_of_a_name_is_refused_at_its_field(acme: World) -> None:
    kept(acme)

    assert "exists already" in add(acme.browser(), provider="anthropic").content.decode()


def test_change_leaves_the_secret_alone(acme: World) -> None:
    row = kept(acme)
    url = reverse("admin:tenants_credential_change", args=[row.pk])

    answer = acme.browser().post(
        url, {"name": "renamed", "default_model": "gpt-5", "enabled": "on"}
    )

    assert answer.status_code == 302
    assert secrets_of(acme) == [OLD]
    with acme.scope():
        row.refresh_from_db()
    assert (row.name, row.default_model, row.version) == ("renamed", "gpt-5", 2)


def test_rotation_goes_through_the_buttons(acme: World) -> None:
    client, row = acme.browser(), kept(acme)

    assert "Both secrets serve now" in press(client, row, "rotate", new_secret=NEW)
    assert secrets_of(acme) == [NEW, OLD]
    assert "retired" in press(client, row, "retire", which="previous")

    assert secrets_of(acme) == [NEW]
    assert "has one secret only" in press(client, row, "retire", which="previous")


def test_refused_secret_is_not_shown_with_the_reason(acme: World) -> None:
    page = press(acme.browser(), kept(acme), "rotate", new_secret=f"{NEW}\n")

    assert "a line break" in page
    assert NEW not in page


def test_check_says_what_came_of_it(acme: World) -> None:
    row = kept(acme, provider="compatible", base_url="https://models.invalid/v1")
    client = acme.browser()

    assert "cannot resolve models.invalid" in press(client, row, "ask")
    assert "try again in" in press(client, row, "ask")


def test_page_of_providers_checks_one(acme: World) -> None:
    client = acme.browser()

    checked = client.post(reverse("admin:provider_check", args=["simulated"]), follow=True)

    page = checked.content.decode()
    assert "It works" in page
    assert "has no API key" in page
    with acme.scope():
        assert ProviderCheck.objects.get().ok
    assert client.get(reverse("admin:provider_check", args=["simulated"])).status_code == 405
    assert client.post(reverse("admin:provider_check", args=["nonsense"])).status_code == 404


def test_viewer_looks_at_providers_and_at_no_credential(live_db: None) -> None:
    viewer = make_tenant("viewer", role="viewer").browser()

    page = viewer.get(reverse("admin:providers"))

    assert page.status_code == 200
    assert "Check</button>" not in page.content.decode()
    assert viewer.post(reverse("admin:provider_check", args=["simulated"])).status_code == 403
    assert viewer.get(reverse("admin:tenants_credential_changelist")).status_code == 403


def test_pages_need_a_login(live_db: None) -> None:
    assert Client().get(reverse("admin:providers")).status_code == 302
    assert Client().post(reverse("admin:provider_check", args=["simulated"])).status_code == 302


def test_command_checks_as_a_tenant(acme: World, capsys: pytest.CaptureFixture[str]) -> None:
    kept(acme, provider="compatible", base_url="https://models.invalid/v1")

    with pytest.raises(SystemExit):
        call_command("providers", "check", "compatible", "--tenant", acme.tenant.slug)
    call_command("providers", "check", "simulated", "--tenant", acme.tenant.slug)

    told = capsys.readouterr().out
    assert "failing" in told
    assert "ok" in told
    with acme.scope():
        checks = {c.provider: c.ok for c in ProviderCheck.objects.all()}
    assert checks == {"compatible": False, "simulated": True}
