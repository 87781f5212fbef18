import re

from django.test import Client
from django.urls import reverse

from tenants.models import ApiKey
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
