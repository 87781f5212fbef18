"""Credentials over REST: what goes in, what never comes out, and whether they work."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client

from agents_app.providers import transport
from orchestrator.execution.providers import provider_settings
from tenants.kernel.clock import now
from tenants.models import IdempotencyRecord, ProviderCheck
from tenants.selectors.credentials import serving_credentials
from tests.eventually import eventually
from tests.model_servers import RawServer, http, raw_server
from tests.rest import call, get, made, post, problems
from tests.world import World

OLD = "sk-acme-old-0123456789-aaaa"
NEW = "sk-acme-new-0123456789-bbbb"
MODELS = {"data": [{"id": "m-1"}, {"id": "m-2"}]}
CHAT = {
    "model": "m-1",
    "choices": [{"message": {"content": "OK"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1},
}
LIMITS = "X-RateLimit-Remaining-Requests: 41"


@contextmanager
def provider(*accepts: str) -> Iterator[RawServer]:
    """A server that lets these keys in."""

    def talk(server: RawServer, connection: Any, asked: bytes) -> None:
        is_known = any(f"bearer {key}".encode() in asked.lower() for key in accepts)
        if not is_known:
            refusal = {"error": {"message": "no such key", "code": "invalid_api_key"}}
            connection.sendall(http(refusal, status="401 Unauthorized"))
        elif asked.startswith(b"GET"):
            connection.sendall(http(MODELS))
        else:
            connection.sendall(http(CHAT, headers=(LIMITS,)))

    with raw_server(talk) as server:
        yield server


@pytest.fixture
def _own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tenants may reach this machine, where the servers of the tests are."""
    monkeypatch.setattr(settings, "MUSTER_PRIVATE_NETWORKS", [ip_network("127.0.0.0/8")])


def kept(world: World, **facts: Any) -> dict[str, Any]:
    given = {"name": "main", "provider": "openai", "secret": OLD, **facts}
    return made(post(world.client(), "credentials", given))


def rested(world: World) -> None:
    """As if the last checks were some time ago."""
    with world.scope():
        for check in ProviderCheck.objects.all():
            check.started_at -= timedelta(minutes=2)
            check.save(update_fields=["started_at"])


def test_secret_is_never_answered(acme: World) -> None:
    client = acme.client()
    created = kept(acme)
    address = f"credentials/{created['id']}"

    answers = [
        get(client, address),
        get(client, "credentials"),
        call(client, "PATCH", address, {"default_model": "gpt-x"}),
        post(client, f"{address}/rotate", {"secret": NEW}),
        post(client, f"{address}/retire"),
        get(client, "audit"),
    ]

    assert all(answer.status_code == 200 for answer in answers)
    text = json.dumps(created) + "".join(answer.content.decode() for answer in answers)
    assert OLD not in text
    assert NEW not in text
    assert (created["hint"], created["state"], created["previous_hint"]) == (
        "aaaa",
        "unchecked",
        None,
    )


def test_everything_wrong_with_a_body_comes_at_once(acme: World) -> None:
    body = {"name": "", "secret": 7, "models": {"boss": "x"}, "limits": {}, "enabled": "maybe"}

    answer = post(acme.client(), "credentials", body)

    assert answer.status_code == 400
    assert problems(answer) == {
        ("/name", "blank"),
        ("/provider", "required"),
        ("/secret", "invalid"),
        ("/models/boss", "unknown_field"),
        ("/limits", "unknown_field"),
        ("/enabled", "invalid"),
    }


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"secret": ""}, ("/secret", "invalid_secret")),
        ({"secret": OLD + "\n"}, ("/secret", "invalid_secret")),
        ({"provider": "nonsense"}, ("/provider", "unknown_provider")),
        ({"provider": "compatible"}, ("/base_url", "address_refused")),
        ({"base_url": "https://api.example.com"}, ("/base_url", "address_refused")),
    ],
)
def test_bad_input_is_refused_at_its_place(
    acme: World, facts: dict[str, Any], problem: tuple[str, str]
) -> None:
    answer = post(
        acme.client(), "credentials", {"name": "x", "provider": "openai", "secret": OLD, **facts}
    )

    assert answer.status_code == 400
    assert problems(answer) == {problem}
    assert OLD not in answer.content.decode()


def test_second_of_a_name_and_second_of_a_provider_are_refused(acme: World) -> None:
    kept(acme)
    body = {"name": "main", "provider": "anthropic", "secret": NEW}

    same_name = post(acme.client(), "credentials", body)
    same_provider = post(acme.client(), "credentials", {**body, "name": "b", "provider": "openai"})

    assert problems(same_name) == {("/name", "already_exists")}
    assert (same_provider.status_code, same_provider.json()["code"]) == (409, "provider_taken")


def test_address_and_secret_cannot_be_changed_apart(acme: World) -> None:
    created = kept(acme, provider="compatible", base_url="https://models.example.com/v1")

    answer = call(
        acme.client(),
        "PATCH",
        f"credentials/{created['id']}",
        {"base_url": "https://evil.example.com", "secret": NEW},
    )

    assert problems(answer) == {("/base_url", "unknown_field"), ("/secret", "unknown_field")}


def test_narrowed_key_sees_no_credentials(acme: World) -> None:
    client = Client(headers={"authorization": f"Bearer {acme.key(project=acme.project)}"})

    assert get(client, "credentials").status_code == 403
    assert post(client, "providers/simulated/check").status_code == 403


@pytest.mark.usefixtures("_own_network")
def test_check_tells_what_works_and_what_is_left(acme: World) -> None:
    with provider(OLD) as server:
        created = kept(
            acme, provider="compatible", base_url=f"{server.url}/v1", default_model="m-1"
        )
        found = made(post(acme.client(), f"credentials/{created['id']}/check"))

    assert (found["ok"], found["reachable"], found["model"]) == (True, True, "m-1")
    assert found["limits"] == {"x-ratelimit-remaining-requests": "41"}
    shown = made(get(acme.client(), f"credentials/{created['id']}"))
    assert (shown["state"], shown["check"]) == ("working", found)
    listed = {p["name"]: p for p in made(get(acme.client(), "providers"))["results"]}
    assert listed["compatible"]["check"] == found
    assert listed["compatible"]["credential"] == {"id": created["id"], "name": "main"}


@pytest.mark.usefixtures("_own_network")
def test_check_asks_both_secrets_of_a_rotation(acme: World) -> None:
    with provider(OLD) as server:
        created = kept(acme, provider="compatible", base_url=f"{server.url}/v1")
        made(post(acme.client(), f"credentials/{created['id']}/rotate", {"secret": NEW}))
        found = made(post(acme.client(), f"credentials/{created['id']}/check"))

    assert not found["ok"]
    assert "newest secret: compatible: auth (401)" in found["detail"]
    assert "the one before: 2 models listed" in found["detail"]
    assert NEW not in found["detail"]
    shown = made(get(acme.client(), f"credentials/{created['id']}"))
    assert shown["state"] == "failing"


def test_check_of_an_address_that_leads_inside_reaches_nobody(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name looks harmless, and resolves to this machine."""
    with provider(OLD) as server:
        port = server.url.rpartition(":")[2]
        created = kept(
            acme, provider="compatible", base_url=f"https://models.example.com:{port}/v1"
        )
        monkeypatch.setattr(transport, "addresses_of", lambda host, port: ["127.0.0.1"])
        found = made(post(acme.client(), f"credentials/{created['id']}/check"))

        assert server.requests == []
    assert "leads into a private network" in found["detail"]
    assert "127.0.0.1" not in found["detail"]


def test_check_comes_too_soon(acme: World) -> None:
    client = acme.client()
    assert made(post(client, "providers/simulated/check"))["ok"]

    answer = post(client, "providers/simulated/check")

    assert (answer.status_code, answer.json()["code"]) == (429, "check_too_soon")
    assert 1 <= int(answer.headers["Retry-After"]) <= 10
    rested(acme)
    assert post(client, "providers/simulated/check").status_code == 200


def test_checks_of_a_tenant_are_bounded_in_all(acme: World, globex: World) -> None:
    with acme.scope():
        for number in range(10):
            ProviderCheck.objects.create(provider=f"p{number}", started_at=now())

    assert post(acme.client(), "providers/simulated/check").status_code == 429
    assert post(globex.client(), "providers/simulated/check").status_code == 200


def test_repeated_check_with_a_key_asks_nobody_again(acme: World) -> None:
    client = acme.client()
    first = post(client, "providers/simulated/check", idempotency_key="one")

    second = post(client, "providers/simulated/check", idempotency_key="one")

    assert (second.status_code, second.content) == (200, first.content)
    assert second.headers["Idempotent-Replayed"] == "true"
    with acme.scope():
        assert IdempotencyRecord.objects.count() == 1


@pytest.mark.usefixtures("_own_network")
def test_nothing_is_held_while_the_provider_is_asked(acme: World) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def talk(server: RawServer, connection: Any, request: bytes) -> None:
        asked.set()
        go_on.wait(20)
        connection.sendall(http(MODELS))

    with raw_server(talk) as server:
        created = kept(acme, provider="compatible", base_url=f"{server.url}/v1")
        client = acme.client()
        address = f"credentials/{created['id']}/check"
        thread = threading.Thread(target=lambda: post(client, address))
        thread.start()
        try:
            assert asked.wait(20)
            with acme.scope(), connection.cursor() as cursor:
                # What holds a lock or an open transaction would keep this waiting.
                cursor.execute("SET LOCAL lock_timeout = '2s'")
                cursor.execute("SELECT id FROM credential FOR UPDATE")
                cursor.execute("SELECT id FROM provider_check FOR UPDATE")
                assert len(cursor.fetchall()) == 1
        finally:
            go_on.set()
            thread.join()

    assert eventually(lambda: made(get(client, f"credentials/{created['id']}"))["check"]["ok"])


def test_provider_tells_why_it_cannot_be_called(acme: World) -> None:
    listed = {p["name"]: p for p in made(get(acme.client(), "providers"))["results"]}

    assert listed.keys() == provider_settings().keys()
    assert (listed["openai"]["usable"], listed["openai"]["problem"]) == (False, "it has no API key")
    assert listed["simulated"]["usable"]
    assert get(acme.client(), "providers/nonsense").status_code == 404


def test_tools_have_any_number_of_credentials_which_nobody_checks(acme: World) -> None:
    client = acme.client()
    for name in ("crm", "warehouse"):
        body = {"name": name, "provider": "tool", "secret": "secret-0123456789"}
        made_one = made(post(client, "credentials", body))

    answer = post(client, f"credentials/{made_one['id']}/check", {})

    assert (answer.status_code, answer.json()["code"]) == (409, "not_checkable")
    with acme.scope():
        assert serving_credentials() == {}
