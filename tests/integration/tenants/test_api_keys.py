from datetime import timedelta

import pytest
from django.test import Client

from tenants.kernel.clock import now
from tenants.models import Project
from tests.rest import get, made, post, problems
from tests.world import World


def client_of(key: str) -> Client:
    return Client(headers={"authorization": f"Bearer {key}"})


def new_key(world: World, **body: object) -> dict:
    return made(post(world.client(), "api-keys", {"name": "ci", "scopes": ["admin"], **body}))


def narrowed(world: World) -> tuple[Client, Project]:
    """A key of a second project, beside `main`."""
    with world.scope():
        project = Project.objects.create(slug="second", name="Second")
    return client_of(world.key(project=project)), project


def test_new_key_works_and_shows_its_secret_once(acme: World) -> None:
    key = new_key(acme)

    assert get(client_of(key["key"]), "api-keys").status_code == 200
    assert "key" not in made(get(acme.client(), f"api-keys/{key['id']}"))


def test_revoked_key_is_refused_with_the_reason(acme: World) -> None:
    key = new_key(acme)

    revoked = made(post(acme.client(), f"api-keys/{key['id']}/revoke"))
    answer = get(client_of(key["key"]), "api-keys")

    assert revoked["revoked_at"]
    assert answer.status_code == 401
    assert "revoked" in answer.json()["detail"]
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="muster"'


def test_deleted_key_is_revoked_and_stays_listed(acme: World) -> None:
    key = new_key(acme)

    assert acme.client().delete(f"/api/v1/api-keys/{key['id']}").status_code == 204

    assert get(client_of(key["key"]), "api-keys").status_code == 401
    assert made(get(acme.client(), f"api-keys/{key['id']}"))["revoked_at"]


def test_key_is_never_wider_than_its_maker(acme: World) -> None:
    answer = post(
        acme.client("admin"), "api-keys", {"name": "x", "scopes": ["admin", "runs:write"]}
    )

    assert (answer.status_code, answer.json()["code"]) == (403, "scope_exceeded")
    assert "runs:write" in answer.json()["detail"]


def key_for_a_day(world: World) -> dict:
    return new_key(world, expires_at=(now() + timedelta(days=1)).isoformat())


@pytest.mark.parametrize("asked", [{}, {"expires_at": None}])
def test_key_made_by_a_key_ends_with_it(acme: World, asked: dict) -> None:
    maker = key_for_a_day(acme)

    child = made(
        post(client_of(maker["key"]), "api-keys", {"name": "x", "scopes": ["admin"], **asked})
    )

    assert child["expires_at"] == maker["expires_at"]


def test_key_may_end_before_its_maker(acme: World) -> None:
    soon = (now() + timedelta(hours=1)).isoformat()
    body = {"name": "x", "scopes": ["admin"], "expires_at": soon}

    assert post(client_of(key_for_a_day(acme)["key"]), "api-keys", body).status_code == 201


def test_key_never_outlives_its_maker(acme: World) -> None:
    later = (now() + timedelta(days=2)).isoformat()
    maker = key_for_a_day(acme)

    answer = post(
        client_of(maker["key"]),
        "api-keys",
        {"name": "x", "scopes": ["admin"], "expires_at": later},
    )

    assert problems(answer) == {("/expires_at", "expiry_exceeded")}
    assert maker["expires_at"][:19] in answer.json()["errors"][0]["message"]


def test_every_fault_of_a_new_key_is_told(acme: World) -> None:
    body = {"scopes": ["all"], "expires_at": (now() - timedelta(days=1)).isoformat()}

    answer = post(acme.client(), "api-keys", body)

    assert problems(answer) == {
        ("/name", "required"),
        ("/scopes/0", "invalid_choice"),
        ("/expires_at", "past"),
    }


def test_key_for_an_unknown_project_is_refused(acme: World, globex: World) -> None:
    body = {"name": "x", "scopes": ["runs:read"], "project": str(globex.project.id)}

    assert post(acme.client(), "api-keys", body).status_code == 404


def test_narrowed_key_sees_its_project_alone(acme: World) -> None:
    client, project = narrowed(acme)

    shown = made(get(client, "projects"))["results"]

    assert [row["id"] for row in shown] == [str(project.id)]
    assert get(client, f"projects/{acme.project.id}").status_code == 404


def test_narrowed_key_makes_keys_of_its_project_alone(acme: World) -> None:
    client, project = narrowed(acme)
    body = {"name": "x", "scopes": ["runs:read"]}

    own = made(post(client, "api-keys", body))
    other = post(client, "api-keys", {**body, "project": "main"})

    assert own["project"]["id"] == str(project.id)
    assert other.status_code == 404


@pytest.mark.parametrize("path", ["members", "audit"])
def test_narrowed_key_reads_nothing_of_the_whole_tenant(acme: World, path: str) -> None:
    client, _ = narrowed(acme)

    assert get(client, path).status_code == 403


def test_narrowed_key_makes_no_projects_and_changes_no_shared_agents(acme: World) -> None:
    client, _ = narrowed(acme)

    assert post(client, "projects", {"slug": "third"}).status_code == 403
    assert post(client, "agents", {"slug": "writer"}).status_code == 403


@pytest.mark.parametrize(
    "header", ["Basic YTpi", "Bearer", "Bearer nonsense", "Bearer mk_unknown", "Bearer mk_\u00e9"]
)
def test_bad_key_is_401_with_a_problem(acme: World, header: str) -> None:
    answer = get(Client(), "projects", authorization=header)

    assert answer.status_code == 401
    assert answer.json()["code"] == "authentication_failed"


def test_session_needs_a_csrf_token(acme: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(acme.owner)

    answer = post(client, "projects", {"slug": "x"})

    assert answer.status_code == 403
    assert "CSRF" in answer.json()["detail"]
