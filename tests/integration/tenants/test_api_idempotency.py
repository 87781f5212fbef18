from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection

from tenants.kernel.clock import now
from tenants.models import ApiKey, IdempotencyRecord, Project
from tests.rest import get, made, post
from tests.world import World

BODY = {"slug": "billing"}


def test_repeat_answers_the_same_and_does_nothing_again(acme: World) -> None:
    client = acme.client()

    first = post(client, "projects", BODY, idempotency_key="one")
    second = post(client, "projects", BODY, idempotency_key="one")

    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert (second.status_code, second.content) == (201, first.content)
    assert second.headers["Location"] == first.headers["Location"]
    with acme.scope():
        assert Project.objects.filter(slug="billing").count() == 1


def test_another_body_with_the_same_key_is_refused(acme: World) -> None:
    client = acme.client()
    made(post(client, "projects", BODY, idempotency_key="one"))

    answer = post(client, "projects", {"slug": "other"}, idempotency_key="one")

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


def test_the_same_key_at_another_address_is_refused(acme: World) -> None:
    client = acme.client()
    made(post(client, "projects", BODY, idempotency_key="one"))

    assert post(client, "agents", BODY, idempotency_key="one").status_code == 422


def test_refusal_is_not_remembered(acme: World) -> None:
    client = acme.client()
    assert post(client, "projects", {"slug": "main"}, idempotency_key="one").status_code == 400

    assert post(client, "projects", BODY, idempotency_key="one").status_code == 201


def test_keys_of_two_callers_do_not_meet(acme: World) -> None:
    made(post(acme.client(), "projects", BODY, idempotency_key="one"))

    answer = post(acme.client(), "projects", {"slug": "other"}, idempotency_key="one")

    assert answer.status_code == 201


def test_keys_of_two_tenants_do_not_meet(acme: World, globex: World) -> None:
    made(post(acme.client(), "projects", BODY, idempotency_key="one"))

    assert post(globex.client(), "projects", BODY, idempotency_key="one").status_code == 201


def test_expired_key_counts_as_new(acme: World) -> None:
    client = acme.client()
    made(post(client, "projects", BODY, idempotency_key="one"))
    with acme.scope():
        IdempotencyRecord.objects.update(expires_at=now() - timedelta(seconds=1))

    answer = post(client, "projects", {"slug": "other"}, idempotency_key="one")

    assert answer.status_code == 201
    assert "Idempotent-Replayed" not in answer.headers


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "tab\there", "caf\u00e9"])
def test_malformed_key_is_refused(acme: World, key: str) -> None:
    answer = post(acme.client(), "projects", BODY, idempotency_key=key)

    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")


def test_key_of_255_characters_is_taken(acme: World) -> None:
    answer = post(acme.client(), "projects", BODY, idempotency_key="x" * 255)

    assert answer.status_code == 201


def test_duplicate_while_the_first_is_in_progress_is_told_so(acme: World) -> None:
    client = acme.client()
    with acme.scope():
        key_id = ApiKey.objects.get().id
    with acme.scope(), connection.cursor() as cursor:
        name = f"{acme.tenant.id}:api_key:{key_id}:one"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])

        answer = in_another_thread(lambda: post(client, "projects", BODY, idempotency_key="one"))

    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_in_use")
    assert post(client, "projects", BODY, idempotency_key="one").status_code == 201


def test_secret_of_a_key_is_neither_stored_nor_repeated(acme: World) -> None:
    client, body = acme.client(), {"name": "ci", "scopes": ["runs:read"]}

    first = made(post(client, "api-keys", body, idempotency_key="one"))
    second = made(post(client, "api-keys", body, idempotency_key="one"))

    assert first["key"].startswith("mk_")
    assert second == {**first, "key": None}
    with acme.scope():
        assert first["key"] not in str(IdempotencyRecord.objects.get().body)


def test_key_on_a_reading_call_means_nothing(acme: World) -> None:
    assert get(acme.client(), "projects", idempotency_key="").status_code == 200


def in_another_thread(work):
    def run():
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(timeout=30)
