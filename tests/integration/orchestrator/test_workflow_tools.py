"""Published workflows as tools: all of them, and one by its name."""

from uuid import UUID

from django.db import connection
from django.test.utils import CaptureQueriesContext

from orchestrator.core.yaml_io import load_text
from tests.rest import YAML, get, made, post, published
from tests.world import World

SPEC = load_text(YAML)


def names(world: World) -> list[str]:
    return [each["name"] for each in get(world.client(), "workflow-tools").json()["results"]]


def test_workflow_of_one_name_in_two_projects_is_called_by_both(acme: World) -> None:
    client = acme.client()
    made(post(client, "projects", {"slug": "second"}))
    for project in ("main", "second"):
        row = made(post(client, f"workflows?project={project}", {**SPEC, "name": "greet"}))
        made(post(client, f"workflows/{row['id']}/publish"))

    assert names(acme) == ["main__greet", "second__greet"]
    found = get(client, "workflow-tools/second__greet").json()
    assert (found["name"], found["project"]) == ("second__greet", "second")
    assert get(client, "workflow-tools/greet").status_code == 404


def test_one_tool_is_found_without_reading_what_the_others_take(acme: World) -> None:
    one, other = published(acme), published(acme, YAML.replace("name: greet", "name: other"))

    with CaptureQueriesContext(connection) as queries:
        found = get(acme.client(), f"workflow-tools/{one['name']}").json()

    specs = [each["sql"] for each in queries if "inputs" in each["sql"]]
    assert found["workflow"] == one["id"]
    assert len(specs) == 1
    assert UUID(one["id"]).hex in specs[0].replace("-", "")
    assert UUID(other["id"]).hex not in specs[0].replace("-", "")


def test_a_stranger_finds_none(acme: World, globex: World) -> None:
    row = published(acme)

    assert get(globex.client(), f"workflow-tools/{row['name']}").status_code == 404
