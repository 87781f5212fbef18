"""Errors have one form, whoever raises them."""

import pytest
from django.db import OperationalError
from django.test import Client

from tenants.models import AuditEntry
from tests.rest import call, get, made, post
from tests.world import World

FIELDS = {"type", "title", "status", "code", "detail", "request_id", "errors"}


def is_problem(answer, status: int, code: str) -> bool:
    body = answer.json()
    return (
        answer.headers["Content-Type"] == "application/problem+json"
        and set(body) == FIELDS
        and (answer.status_code, body["status"], body["code"]) == (status, status, code)
        and body["type"] == f"/problems/{code}"
        and bool(body["request_id"])
    )


def raw(client: Client, body: bytes, kind: str = "application/json"):
    return client.post("/api/v1/projects", body, content_type=kind)


@pytest.mark.parametrize("path", ["nothing", "runs/not-an-id", "runs/", "workflows/1/versions/x"])
def test_unknown_address(acme: World, path: str) -> None:
    assert is_problem(get(acme.client(), path), 404, "not_found")


def test_address_outside_the_api_keeps_its_page(live_db: None) -> None:
    assert Client().get("/nothing").headers["Content-Type"].startswith("text/html")


def test_huge_number_in_an_address(acme: World) -> None:
    workflow = made(
        post(acme.client(), "workflows", {"name": "x", "steps": {"a": {"delay": "1s"}}})
    )

    answer = get(acme.client(), f"workflows/{workflow['id']}/versions/{10**30}")

    assert is_problem(answer, 404, "not_found")


def test_wrong_method_names_the_right_ones(acme: World) -> None:
    answer = call(acme.client("runs:read"), "DELETE", "runs")

    assert is_problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) >= {"GET", "POST"}


def test_wrong_kind_of_body(acme: World) -> None:
    assert is_problem(raw(acme.client(), b"a=1", "text/plain"), 415, "unsupported_media_type")


def test_form_in_a_session(acme: World) -> None:
    answer = acme.browser().post("/api/v1/projects", {"slug": "x"})

    assert is_problem(answer, 415, "unsupported_media_type")


def test_answer_that_cannot_be_given(acme: World) -> None:
    answer = get(acme.client(), "projects", accept="image/png")

    assert is_problem(answer, 406, "not_acceptable")


def test_body_that_is_too_large(acme: World) -> None:
    assert is_problem(raw(acme.client(), b" " * 7_000_000), 413, "too_large")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"slug": NaN}',
        b'{"slug": 1e999}',
        b'{"slug": "a", "slug": "b"}',
        b'{"slug": "\xff"}',
        b'{"slug": "\\u0000"}',
        b'{"slug": "\\ud800"}',
        b'{"slug": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"slug": ' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"slug": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
def test_hostile_json(acme: World, body: bytes) -> None:
    assert is_problem(raw(acme.client(), body), 400, "parse_error")


@pytest.mark.parametrize("body", [b"[]", b"7", b'"x"', b"null"])
def test_json_that_is_no_object(acme: World, body: bytes) -> None:
    answer = raw(acme.client(), body)

    assert is_problem(answer, 400, "invalid_input")
    assert answer.json()["errors"][0]["loc"] == ""


def test_unknown_charset_is_read_as_utf8(acme: World) -> None:
    answer = acme.client().generic(
        "POST", "/api/v1/projects", b'{"slug": "x"}', "application/json; charset=nonsense"
    )

    assert answer.status_code == 201


def test_change_is_audited_with_the_request_that_made_it(acme: World) -> None:
    made(post(acme.client(), "projects", {"slug": "x"}))

    with acme.scope():
        entry = AuditEntry.objects.get(tenant=acme.tenant, after__slug="x")
    assert len(entry.request_id) == 36


def test_unexpected_error_tells_nothing_but_its_id(acme: World, monkeypatch) -> None:
    def broken(principal):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("tenants.api.views.projects_of", broken)
    client = acme.client()
    client.raise_request_exception = False

    answer = get(client, "projects")

    assert is_problem(answer, 500, "internal_error")
    assert b"secret" not in answer.content


def test_database_that_is_away_is_told_apart(acme: World, monkeypatch) -> None:
    def unreachable(key):
        raise OperationalError

    monkeypatch.setattr("tenants.middleware.principal_of_key", unreachable)
    client = acme.client()
    client.raise_request_exception = False

    assert is_problem(get(client, "projects"), 503, "unavailable")


def test_refused_change_leaves_nothing_behind(acme: World) -> None:
    answer = post(acme.client(), "projects", {"slug": "main"})

    assert answer.status_code == 400
    assert len(made(get(acme.client(), "projects"))["results"]) == 1


def test_empty_project_is_deleted_and_a_full_one_is_not(acme: World) -> None:
    client = acme.client()
    empty = made(post(client, "projects", {"slug": "empty"}))
    made(post(client, "workflows?project=main", {"name": "x", "steps": {"a": {"delay": "1s"}}}))

    assert call(client, "DELETE", f"projects/{empty['id']}").status_code == 204
    full = call(client, "DELETE", f"projects/{acme.project.id}")
    assert is_problem(full, 409, "project_not_empty")
