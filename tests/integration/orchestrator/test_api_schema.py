"""What the OpenAPI document allows, and what it forbids, never breaks the server."""

from typing import Any

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode

from tests.filled import Filled, fill
from tests.rest import call, get
from tests.world import World

SCHEMA = "/api/v1/schema?format=json"
EXAMPLES = 12


@pytest.fixture
def filled(acme: World) -> Filled:
    return fill(acme)


def operations() -> list[Any]:
    schema = schemathesis.openapi.from_wsgi(SCHEMA, WSGIHandler())
    return [result.ok() for result in schema.get_all_operations()]


def aimed(case: Case, filled: Filled) -> Case:
    """At things that exist, so that more than a 404 is tried; they are not to be deleted."""
    collection = case.operation.path.removeprefix("/api/v1/").partition("/{")[0]
    if case.method != "DELETE" and "id" in case.path_parameters and collection in filled.ids:
        case.path_parameters["id"] = filled.ids[collection]
    return case


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_call_breaks_the_server(filled: Filled, mode: GenerationMode) -> None:
    headers = {"Authorization": f"Bearer {filled.world.key()}"}
    tried = 0
    for operation in operations():

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def never_breaks(case: Case) -> None:
            nonlocal tried
            answer = aimed(case, filled).call(headers=headers)
            assert answer.status_code < 500, case.as_curl_command()
            tried += 1

        never_breaks()
    assert tried > 100


def test_document_is_openapi_3_and_public(live_db: None, client: Any) -> None:
    document = get(client, "schema?format=json").json()

    assert document["openapi"].startswith("3.")
    assert document["paths"]["/api/v1/runs"]["post"]["responses"].keys() >= {"202", "default"}


def test_docs_page_loads_nothing_from_elsewhere(live_db: None, client: Any) -> None:
    page = get(client, "docs")

    assert page.status_code == 200
    assert "https://" not in page.content.decode()
    assert "/static/drf_spectacular_sidecar/" in page.content.decode()


def test_every_operation_says_what_it_is_for(live_db: None, client: Any) -> None:
    document = call(client, "GET", "schema?format=json").json()
    undescribed = [
        f"{method} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not operation.get("description")
    ]

    assert undescribed == []
