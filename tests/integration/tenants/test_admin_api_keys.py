import re

import pytest
from django.test import Client
from django.urls import reverse

from tenants.models import ApiKey
from tests.rest import made, post
from tests.world import World


def make_key(client: Client, **fields: object) -> tuple[str, str]:
    """The secret, and the page that showed it."""
    given = {"name": "ci", "scopes": ["runs:read", "workflows:read"], **fields}
    page = client.post(reverse("admin:tenants_apikey_add"), given).content.decode()
    return re.findall(r"mk_[\w-]{20,}", page)[0], page


def test_new_key_is_shown_and_works(acme: World) -> None:
    secret, _ = make_key(acme.browser())

    answer = Client(headers={"authorization": f"Bearer {secret}"}).get("/api/v1/workflows")

    assert answer.status_code == 200


def test_secret_is_shown_once_and_kept_nowhere(acme: World) -> None:
    client = acme.browser()
    secret, _ = make_key(client)

    later = client.get(reverse("admin:tenants_apikey_changelist")).content.decode()

    assert secret not in later
    assert secret not in str(dict(client.session))


def test_page_with_the_secret_is_not_cached(acme: World) -> None:
    answer = acme.browser().post(
        reverse("admin:tenants_apikey_add"), {"name": "ci", "scopes": ["runs:read"]}
    )

    assert "no-store" in answer["Cache-Control"]


def test_revoked_key_opens_nothing(acme: World) -> None:
    client = acme.browser()
    secret, _ = make_key(client)
    with acme.scope():
        key = ApiKey.objects.get()

    client.post(reverse("admin:tenants_apikey_revoke", args=[key.pk]))

    answer = Client(headers={"authorization": f"Bearer {secret}"}).get("/api/v1/workflows")
    assert answer.status_code == 401


def test_expiry_in_the_past_is_refused(acme: World) -> None:
    answer = acme.browser().post(
        reverse("admin:tenants_apikey_add"),
        {
            "name": "ci",
            "scopes": ["runs:read"],
            "expires_at_0": "2020-01-01",
            "expires_at_1": "00:00",
        },
    )

    assert "expires_at" in answer.context["adminform"].form.errors


def rotate(client: Client, key: ApiKey, **fields: str) -> str:
    url = reverse("admin:tenants_apikey_rotate", args=[key.pk])
    answer = client.post(url, fields, follow=True)
    assert answer.status_code == 200
    assert not answer.redirect_chain or "mk_" in answer.content.decode()
    return answer.content.decode()


def test_rotated_key_is_shown_once_beside_the_end_of_the_old_one(acme: World) -> None:
    client = acme.browser()
    old, _ = make_key(client)
    with acme.scope():
        key = ApiKey.objects.get()

    page = rotate(client, key, grace="24")

    (secret,) = set(re.findall(r"mk_[\w-]{20,}", page))
    assert secret != old
    assert "It replaces" in page
    for each in (old, secret):
        answer = Client(headers={"authorization": f"Bearer {each}"}).get("/api/v1/workflows")
        assert answer.status_code == 200
    assert secret not in client.get(key_page(key)).content.decode()


def key_page(key: ApiKey) -> str:
    return reverse("admin:tenants_apikey_change", args=[key.pk])


def test_rotating_at_once_revokes_the_old_key(acme: World) -> None:
    client = acme.browser()
    old, _ = make_key(client)
    with acme.scope():
        key = ApiKey.objects.get()

    rotate(client, key, grace="0")

    answer = Client(headers={"authorization": f"Bearer {old}"}).get("/api/v1/workflows")
    assert answer.status_code == 401


def test_pages_of_both_keys_tell_when_the_other_was_last_used(acme: World) -> None:
    client = acme.browser()
    make_key(client)
    with acme.scope():
        old = ApiKey.objects.get()
    rotate(client, old)
    with acme.scope():
        new = ApiKey.objects.exclude(pk=old.pk).get()

    assert f'Replaced by <a class="m-link" href="{key_page(new)}"' in page_of(client, old)
    assert "which was never used" in page_of(client, new)
    assert "Rotate into a new key" not in page_of(client, old)


def page_of(client: Client, key: ApiKey) -> str:
    return client.get(key_page(key)).content.decode()


def test_key_that_was_rotated_already_is_refused_with_the_reason(acme: World) -> None:
    client = acme.browser()
    make_key(client)
    with acme.scope():
        key = ApiKey.objects.get()
    rotate(client, key)

    assert "was rotated into" in rotate(client, key)


def test_page_names_the_keys_that_would_be_revoked_too(acme: World) -> None:
    client = acme.browser()
    secret, _ = make_key(client, scopes=["admin"])
    made(
        post(
            Client(headers={"authorization": f"Bearer {secret}"}),
            "api-keys",
            {"name": "offspring", "scopes": ["admin"]},
        )
    )
    with acme.scope():
        key = ApiKey.objects.get(name="ci")

    shown = page_of(client, key)
    revoked = client.post(reverse("admin:tenants_apikey_revoke", args=[key.pk]), follow=True)

    assert "also revokes what was made with it: offspring" in shown
    assert "is revoked, and 1 more with it" in revoked.content.decode()


@pytest.mark.parametrize("page", ["changelist", "add"])
def test_keys_are_called_api_keys(acme: World, page: str) -> None:
    shown = acme.browser().get(reverse(f"admin:tenants_apikey_{page}")).content.decode()

    assert "API key" in shown
    assert "api key" not in shown
    assert "Api key" not in shown
