from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from django.db import connections
from django.test import Client

from tenants.kernel.clock import now
from tenants.models import ApiKey, Project
from tenants.principals import Principal, principal_of_key, principal_of_user
from tenants.services.api_keys import create_api_key, revoke_api_key, rotate_api_key
from tenants.services.errors import KeyEndedError
from tests.eventually import eventually
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


def test_expired_key_is_refused_with_the_reason(acme: World) -> None:
    key = new_key(acme)
    with acme.scope():
        ApiKey.objects.filter(id=key["id"]).update(expires_at=now())

    answer = get(client_of(key["key"]), "api-keys")

    assert (answer.status_code, answer.json()["code"]) == (401, "authentication_failed")
    assert "has expired" in answer.json()["detail"]


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


def child_of(key: dict, **body: object) -> dict:
    return made(
        post(client_of(key["key"]), "api-keys", {"name": "child", "scopes": ["admin"], **body})
    )


def is_let_in(key: dict) -> bool:
    return get(client_of(key["key"]), "api-keys").status_code == 200


def test_key_knows_the_key_that_made_it(acme: World) -> None:
    maker = new_key(acme)

    assert child_of(maker)["made_by"] == maker["id"]


def test_revoking_a_key_revokes_all_that_stem_from_it(acme: World) -> None:
    maker = new_key(acme)
    child = child_of(maker)
    grandchild = child_of(child)
    bystander = new_key(acme)

    made(post(acme.client(), f"api-keys/{maker['id']}/revoke"))

    assert [is_let_in(key) for key in (maker, child, grandchild, bystander)] == [
        *(False, False, False),
        True,
    ]


def test_every_key_that_was_revoked_with_another_says_so_in_the_log(acme: World) -> None:
    maker = new_key(acme)
    child = child_of(maker)

    made(post(acme.client(), f"api-keys/{maker['id']}/revoke"))

    (entry,) = audited(acme, child, "revoked_at")
    assert entry["after"]["revoked_reason"] == (
        f"Revoked with the key ci ({maker['prefix']}…), from which it stems."
    )


def audited(world: World, key: dict, column: str) -> list[dict]:
    """The changes of a column of the key that the audit log tells of."""
    path = f"audit?action=api_key.changed&object_id={key['id']}"
    return [
        entry
        for entry in made(get(world.client(), path))["results"]
        if column in (entry["after"] or {})
    ]


def test_revoking_twice_keeps_the_first_time_and_reason(acme: World) -> None:
    maker = new_key(acme)
    child = child_of(maker)

    first = made(post(acme.client(), f"api-keys/{child['id']}/revoke"))
    made(post(acme.client(), f"api-keys/{maker['id']}/revoke"))

    assert made(get(acme.client(), f"api-keys/{child['id']}")) == first


def test_no_key_is_made_with_one_that_is_being_revoked(acme: World) -> None:
    key = new_key(acme)
    caller = principal_of_key(key["key"])
    assert isinstance(caller, Principal)

    def make() -> None:
        try:
            with acme.scope():
                create_api_key(name="late", scopes=["admin"], by=caller)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=1) as other:
        with acme.scope():
            revoke_api_key(ApiKey.objects.get(id=key["id"]))
            late = other.submit(make)
            eventually(somebody_waits_for_a_turn)
        with pytest.raises(KeyEndedError):
            late.result()


def somebody_waits_for_a_turn() -> bool:
    with connections["owner"].cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
        )
        return bool(cursor.fetchone()[0])


def rotate(world: World, key: dict, **body: object) -> dict:
    return made(post(world.client(), f"api-keys/{key['id']}/rotate", body))


def test_rotated_key_is_a_new_one_for_the_same_use(acme: World) -> None:
    old = new_key(acme, project="main", scopes=["admin", "runs:read"])

    new = rotate(acme, old)

    same = ("name", "scopes", "project", "expires_at")
    assert {field: new[field] for field in same} == {field: old[field] for field in same}
    assert new["id"] != old["id"]
    assert is_let_in(new)


def test_old_key_works_until_the_grace_ends(acme: World) -> None:
    old = new_key(acme)

    new = rotate(acme, old, grace="2h")

    assert is_let_in(old)
    left = datetime.fromisoformat(new["replaces"]["expires_at"]) - now()
    assert timedelta(minutes=119) < left <= timedelta(hours=2)
    assert new["replaces"]["replaced_by"] == new["id"]


def test_grace_is_an_hour_unless_told_and_never_lengthens_a_life(acme: World) -> None:
    soon = (now() + timedelta(minutes=5)).isoformat()

    usual = rotate(acme, new_key(acme))["replaces"]["expires_at"]
    short = rotate(acme, new_key(acme, expires_at=soon))["replaces"]["expires_at"]

    assert timedelta(minutes=59) < datetime.fromisoformat(usual) - now() <= timedelta(hours=1)
    assert datetime.fromisoformat(short) == datetime.fromisoformat(soon)


def test_without_a_grace_the_old_key_is_revoked_at_once(acme: World) -> None:
    old = new_key(acme)
    child = child_of(old)

    new = rotate(acme, old, grace="0s")

    assert [is_let_in(key) for key in (old, child, new)] == [False, False, True]
    assert new["replaces"]["revoked_reason"] == "Rotated without a grace."


def test_last_use_of_both_keys_is_shown(acme: World) -> None:
    old = new_key(acme)
    new = rotate(acme, old)
    is_let_in(old)

    shown = {key["id"]: key for key in made(get(acme.client(), "api-keys"))["results"]}

    assert shown[old["id"]]["last_used_at"]
    assert shown[new["id"]]["last_used_at"] is None


def test_rotation_is_audited_on_both_keys(acme: World) -> None:
    old = new_key(acme)
    new = rotate(acme, old)

    (ended,) = audited(acme, old, "replaced_by_id")
    path = f"audit?action=api_key.created&object_id={new['id']}"
    (begun,) = made(get(acme.client(), path))["results"]

    assert ended["after"]["replaced_by_id"] == new["id"]
    assert ended["after"]["expires_at"]
    assert new["key"] not in str(begun)


def test_length_of_life_is_counted_anew(acme: World) -> None:
    old = key_for_a_day(acme)
    with acme.scope():
        ApiKey.objects.filter(id=old["id"]).update(
            created_at=now() - timedelta(days=9), expires_at=now() + timedelta(days=1)
        )
        owner = principal_of_user(acme.owner, wanted=None)
        assert owner
        new = rotate_api_key(ApiKey.objects.get(id=old["id"]), by=owner).row

    assert new.expires_at
    assert timedelta(days=9) < new.expires_at - now() <= timedelta(days=10)


def test_key_that_rotates_itself_gains_no_time_and_its_successor_ends_with_it(
    acme: World,
) -> None:
    old = key_for_a_day(acme)

    new = made(post(client_of(old["key"]), f"api-keys/{old['id']}/rotate"))
    assert new["expires_at"] == old["expires_at"]

    made(post(acme.client(), f"api-keys/{old['id']}/revoke"))
    assert not is_let_in(new)


def test_key_that_rotates_itself_without_a_grace_leaves_its_successor(acme: World) -> None:
    old = new_key(acme)

    new = made(post(client_of(old["key"]), f"api-keys/{old['id']}/rotate", {"grace": "0s"}))

    assert [is_let_in(old), is_let_in(new)] == [False, True]


def test_key_rotates_none_that_is_wider(acme: World) -> None:
    wide = new_key(acme, scopes=["admin", "runs:write"])

    answer = post(acme.client("admin"), f"api-keys/{wide['id']}/rotate")

    assert (answer.status_code, answer.json()["code"]) == (403, "scope_exceeded")


def test_key_is_rotated_once(acme: World) -> None:
    old = new_key(acme)
    new = rotate(acme, old)

    answer = post(acme.client(), f"api-keys/{old['id']}/rotate")

    assert (answer.status_code, answer.json()["code"]) == (409, "key_replaced")
    assert new["prefix"] in answer.json()["detail"]


def test_revoked_key_is_not_rotated(acme: World) -> None:
    old = new_key(acme)
    post(acme.client(), f"api-keys/{old['id']}/revoke")

    answer = post(acme.client(), f"api-keys/{old['id']}/rotate")

    assert (answer.status_code, answer.json()["code"]) == (409, "key_ended")


@pytest.mark.parametrize(
    ("grace", "code"),
    [
        ("soon", "duration"),
        ("", "blank"),
        ("-1s", "duration"),
        ("1d", "duration"),
        ("\u0661h", "duration"),
        ("721h", "too_long"),
        ("99999h999999m", "too_long"),
        (60, "invalid"),
        (None, "null"),
    ],
)
def test_grace_that_is_none_is_refused(acme: World, grace: object, code: str) -> None:
    key = new_key(acme)

    answer = post(acme.client(), f"api-keys/{key['id']}/rotate", {"grace": grace})

    assert problems(answer) == {("/grace", code)}
    assert is_let_in(key)


def test_repeated_rotation_answers_the_same_without_the_secret(acme: World) -> None:
    old, client = new_key(acme), acme.client()
    path = f"api-keys/{old['id']}/rotate"

    first = made(post(client, path, idempotency_key="once"))
    again = made(post(client, path, idempotency_key="once"))

    assert again == {**first, "key": None}


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
