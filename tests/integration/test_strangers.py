"""Every address of the API, found from the URL configuration, refuses a stranger.

A new address needs no line here; a new kind of path parameter does, and fails until it has one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from tenants.kernel.models import uuid7
from tests.factories import make_tenant
from tests.filled import PREFIX, Filled, collection_of, fill
from tests.rest import get, post
from tests.world import World

PUBLIC = {"schema", "docs"}
SAME_FOR_ALL = {
    *("blueprints", "blueprints/<str:name>", "blueprints/<str:name>/adopt"),
    *("tools", "tools/<str:name>"),
    *("agents/types", "agents/types/<str:name>"),
    *("providers", "providers/<str:name>", "providers/<str:name>/check"),
    "providers/<str:name>/models/<path:model>",
}
OPERATORS_ONLY = "tenants"


@dataclass(frozen=True, slots=True)
class Route:
    path: str
    methods: tuple[str, ...]

    @property
    def collection(self) -> str:
        return collection_of(self.path)

    @property
    def is_detail(self) -> bool:
        return "<" in self.path


def routes() -> list[Route]:
    found: dict[str, set[str]] = {}
    for path, view in _walk(get_resolver().url_patterns, ""):
        if path.startswith(PREFIX):
            methods = getattr(view, "actions", None) or {"get": ""}
            found.setdefault(path.removeprefix(PREFIX), set()).update(methods)
    return [Route(path, tuple(sorted(methods))) for path, methods in sorted(found.items())]


def _walk(patterns: list[Any], before: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        path = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern):
            yield path, pattern.callback


ROUTES = routes()
LISTS = [r for r in ROUTES if "get" in r.methods and not r.is_detail and r.path not in PUBLIC]
SAVES_NOTHING = "workflows/validate"
WRITES = [r for r in ROUTES if set(r.methods) - {"get"} and r.path != SAVES_NOTHING]
DETAILS = [r for r in ROUTES if r.is_detail and r.path not in SAME_FOR_ALL]


@pytest.fixture
def filled(acme: World) -> Filled:
    return fill(acme)


def insider(filled: Filled, route: Route) -> Client:
    """Someone who may see the thing: an operator for tenants, else the tenant's own key."""
    if route.collection != OPERATORS_ONLY:
        return filled.world.client()
    operator = filled.world.owner
    operator.is_superuser = True
    operator.save(update_fields=["is_superuser"])
    return filled.world.browser()


def send(client: Client, method: str, address: str) -> int:
    body = {} if method in {"get", "delete"} else {"content_type": "application/json"}
    return getattr(client, method)(address, **body).status_code


@pytest.mark.parametrize("route", DETAILS, ids=lambda route: route.path)
def test_stranger_gets_404_where_the_owner_gets_in(
    filled: Filled, globex: World, route: Route
) -> None:
    address = filled.address(route.path)

    if "get" in route.methods:
        assert send(insider(filled, route), "get", address) == 200
    for method in route.methods:
        assert send(globex.client(), method, address) == 404, method
    for method in set(route.methods) - {"get", "delete"}:
        # Whatever the insider's empty body lacks or its state forbids, the thing itself is found.
        known = {200, 201, 202, 400, 409}
        assert send(insider(filled, route), method, address) in known, method


@pytest.mark.parametrize("route", LISTS, ids=lambda route: route.path)
def test_lists_show_a_stranger_nothing_of_it(filled: Filled, globex: World, route: Route) -> None:
    address = filled.address(route.path)
    own = get(insider(filled, route), address)
    assert own.status_code == 200
    if route.path in SAME_FOR_ALL:
        return
    assert filled.ids[route.path] in own.content.decode()

    if route.path == OPERATORS_ONLY:
        assert get(globex.client(), address).status_code == 403
        return
    seen = get(globex.client(), address)
    assert seen.status_code == 200
    assert not [kind for kind, value in filled.ids.items() if value in seen.content.decode()]


@pytest.mark.parametrize(
    "route", [r for r in ROUTES if r.path not in PUBLIC], ids=lambda route: route.path
)
def test_nobody_gets_in_without_a_key_or_a_scope(filled: Filled, route: Route) -> None:
    address = filled.address(route.path)
    # A scope that this call does not ask for.
    scope = "costs:read" if route.collection == "approvals" else "approvals:write"
    powerless = filled.world.client(scope)

    for method in route.methods:
        nobody = getattr(Client(), method)(address)
        assert nobody.status_code == 401, method
        assert nobody.headers["WWW-Authenticate"].startswith("Bearer")
        refused = {403, 404} if route.collection == OPERATORS_ONLY else {403}
        assert send(powerless, method, address) in refused, method


@pytest.mark.parametrize("route", WRITES, ids=lambda route: route.path)
def test_viewer_looks_but_does_not_touch(live_db: None, route: Route) -> None:
    viewer = make_tenant("viewer", role="viewer").browser()
    path = route.path.replace("<uuid:id>", str(uuid7())).replace("<int:number>", "1")
    address = "/" + PREFIX + path

    for method in set(route.methods) - {"get"}:
        hidden = route.collection == OPERATORS_ONLY and route.is_detail
        assert send(viewer, method, address) == (404 if hidden else 403)


def test_a_run_of_a_strangers_workflow_cannot_be_started(filled: Filled, globex: World) -> None:
    answer = post(globex.client(), "runs", {"workflow": filled.ids["workflows"]})

    assert answer.status_code == 404
