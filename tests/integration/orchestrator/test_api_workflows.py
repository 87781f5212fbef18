import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orchestrator.core.yaml_io import load_text
from tenants.models import Project
from tests.rest import YAML, call, get, made, post, problems, published, started
from tests.world import World

SPEC = load_text(YAML)


def draft(world: World) -> dict:
    return made(post(world.client(), "workflows", YAML))


def test_json_and_yaml_bodies_give_the_same_draft(acme: World, globex: World) -> None:
    from_yaml = made(post(acme.client(), "workflows", YAML))
    from_json = made(post(globex.client(), "workflows", SPEC))

    assert from_yaml["spec"] == from_json["spec"] == SPEC


def test_yaml_that_is_read_can_be_posted_to_another_tenant(acme: World, globex: World) -> None:
    one = draft(acme)
    exported = get(acme.client(), f"workflows/{one['id']}", accept="application/yaml")

    other = made(post(globex.client(), "workflows", exported.content.decode()))

    assert exported.headers["Content-Type"].startswith("application/yaml")
    graphs = [
        get(world.client(), f"workflows/{row['id']}/mermaid").content
        for world, row in ((acme, one), (globex, other))
    ]
    assert graphs[0] == graphs[1]


def test_version_is_answered_as_yaml_too(acme: World) -> None:
    workflow = published(acme)

    answer = get(acme.client(), f"workflows/{workflow['id']}/versions/1", accept="application/yaml")

    assert load_text(answer.content) == SPEC


def test_project_is_chosen_in_the_query_or_in_the_body(acme: World) -> None:
    client = acme.client()
    second = made(post(client, "projects", {"slug": "second"}))

    by_query = made(post(client, "workflows?project=second", YAML))
    by_body = made(post(client, "workflows", {**SPEC, "project": str(acme.project.id)}))

    assert by_query["project"] == {"id": second["id"], "slug": "second"}
    assert by_body["project"]["slug"] == "main"


def test_project_must_be_named_where_there_are_several(acme: World) -> None:
    client = acme.client()
    made(post(client, "projects", {"slug": "second"}))

    answer = post(client, "workflows", YAML)

    assert (answer.status_code, problems(answer)) == (400, {("/project", "ambiguous")})


def test_unreadable_yaml_is_told_with_its_line(acme: World) -> None:
    answer = post(acme.client(), "workflows", "name: x\nsteps: [a: {\n")

    assert (answer.status_code, answer.json()["code"]) == (400, "unreadable_spec")
    assert "line 3" in answer.json()["errors"][0]["message"]


def test_spec_problems_come_all_at_once(acme: World) -> None:
    answer = post(acme.client(), "workflows", {"name": "Bad Name", "steps": {"A": {}}, "x": 1})

    assert answer.status_code == 400
    assert {loc for loc, _ in problems(answer)} >= {"/name", "/x"}


def test_validate_reports_and_saves_nothing(acme: World) -> None:
    spec = {**SPEC, "steps": {"a": {"needs": ["b"], "agent": "nobody"}}}

    report = made(post(acme.client(), "workflows/validate", spec))

    assert not report["valid"]
    assert {"loc", "code", "message"} == set(report["errors"][0])
    assert made(get(acme.client(), "workflows"))["results"] == []


def test_validate_of_a_good_spec_has_no_errors(acme: World) -> None:
    report = made(post(acme.client("workflows:read"), "workflows/validate", YAML))

    assert report == {"valid": True, "errors": []}


def test_draft_with_problems_is_not_published(acme: World) -> None:
    spec = {**SPEC, "steps": {"a": {"needs": ["b"], "agent": "nobody"}}}
    workflow = made(post(acme.client(), "workflows", spec))

    answer = post(acme.client(), f"workflows/{workflow['id']}/publish")

    assert (answer.status_code, answer.json()["code"]) == (400, "workflow_invalid")
    assert len(problems(answer)) >= 2


def test_schema_that_refers_to_nothing_is_not_published(acme: World) -> None:
    lost = {"type": "object", "properties": {"city": {"$ref": "#/$defs/city"}}}
    agent = {"type": "tool", "tool": "echo", "arguments": {"value": 1}}
    spec = {**SPEC, "inputs": lost, "steps": {"a": {"agent": agent, "output_schema": lost}}}
    workflow = made(post(acme.client(), "workflows", spec))

    answer = post(acme.client(), f"workflows/{workflow['id']}/publish")

    assert answer.status_code == 400
    told = {error["loc"]: error["message"] for error in answer.json()["errors"]}
    assert told.keys() == {"/inputs", "/steps/a/output_schema"}
    assert all("/properties/city/$ref: `#/$defs/city` leads to" in text for text in told.values())


def test_patch_replaces_the_keys_that_are_given(acme: World) -> None:
    workflow = draft(acme)
    address = f"workflows/{workflow['id']}"

    made(call(acme.client(), "PATCH", address, {"description": "New.", "inputs": None}))

    spec = made(get(acme.client(), address))["spec"]
    assert spec["description"] == "New."
    assert "inputs" not in spec
    assert spec["steps"] == SPEC["steps"]


def test_put_makes_the_draft_equal_to_the_spec(acme: World) -> None:
    workflow = draft(acme)
    smaller = {"muster": 1, "name": "small", "steps": {"one": SPEC["steps"]["hello"]}}

    made(call(acme.client(), "PUT", f"workflows/{workflow['id']}", smaller))

    assert made(get(acme.client(), f"workflows/{workflow['id']}"))["spec"] == smaller


def test_versions_are_numbered_and_newest_first(acme: World) -> None:
    workflow = published(acme)
    address = f"workflows/{workflow['id']}"
    made(call(acme.client(), "PATCH", address, {"description": "Two."}))
    second = post(acme.client(), f"{address}/publish")

    versions = made(get(acme.client(), f"{address}/versions"))["results"]

    assert [version["number"] for version in versions] == [2, 1]
    assert made(get(acme.client(), second.headers["Location"]))["spec"]["description"] == "Two."
    assert made(get(acme.client(), address))["version"] == 2


def test_plan_tells_the_graph(acme: World) -> None:
    workflow = draft(acme)

    plan = made(get(acme.client(), f"workflows/{workflow['id']}/plan"))

    assert plan.pop("price")["worst_usd"] == "0"
    assert plan == {
        "strategy": "levels",
        "levels": [["hello"], ["both"]],
        "entry_steps": ["hello"],
        "exit_steps": ["both"],
        "critical_path": ["hello", "both"],
        "widest_level": ["hello"],
        "price_hindrance": None,
    }


def test_plan_of_a_cycle_names_the_cycle(acme: World) -> None:
    agent = {"type": "aggregator"}
    steps = {"a": {"needs": ["b"], "agent": agent}, "b": {"needs": ["a"], "agent": agent}}
    workflow = made(post(acme.client(), "workflows", {"muster": 1, "name": "loop", "steps": steps}))

    answer = get(acme.client(), f"workflows/{workflow['id']}/plan")

    assert answer.status_code == 400
    assert "a -> b" in answer.content.decode() or "b -> a" in answer.content.decode()


def test_mermaid_is_text_and_json_on_request(acme: World) -> None:
    address = f"workflows/{draft(acme)['id']}/mermaid"

    text = get(acme.client(), address)
    wrapped = made(get(acme.client(), address, accept="application/json"))

    assert text.headers["Content-Type"].startswith("text/plain")
    assert text.content.decode().startswith("flowchart")
    assert wrapped == {"mermaid": text.content.decode()}


def test_deleted_workflow_is_gone_with_its_versions(acme: World) -> None:
    workflow = published(acme)

    assert call(acme.client(), "DELETE", f"workflows/{workflow['id']}").status_code == 204

    assert get(acme.client(), f"workflows/{workflow['id']}").status_code == 404


def test_workflow_with_a_run_at_work_is_not_deleted(acme: World) -> None:
    workflow = published(acme)
    started(acme)

    answer = call(acme.client(), "DELETE", f"workflows/{workflow['id']}")

    assert (answer.status_code, answer.json()["code"]) == (409, "workflow_busy")


def test_name_is_taken_once_in_a_project(acme: World) -> None:
    draft(acme)

    answer = post(acme.client(), "workflows", YAML)

    assert (answer.status_code, problems(answer)) == (400, {("/name", "already_exists")})


def test_narrowed_key_works_in_its_project_alone(acme: World) -> None:
    other = draft(acme)
    with acme.scope():
        project = Project.objects.create(slug="second", name="Second")
    client = acme.client()
    client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {acme.key(project=project)}"

    own = made(post(client, "workflows", YAML))

    assert own["project"]["slug"] == "second"
    assert [row["id"] for row in made(get(client, "workflows"))["results"]] == [own["id"]]
    assert get(client, f"workflows/{other['id']}").status_code == 404
    assert post(client, "workflows?project=main", YAML).status_code == 404


def test_list_takes_as_many_queries_for_many_as_for_one(acme: World) -> None:
    client = acme.client()
    published(acme)

    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            made(get(client, "workflows"))
        return len(queries)

    count()
    for_one = count()
    for number in range(5):
        published(acme, YAML.replace("greet", f"greet-{number}"))
    assert count() == for_one <= 8


@pytest.mark.parametrize("body", ["[]", "7", '"text"', "null", "{"])
def test_body_that_is_no_spec_is_refused(acme: World, body: str) -> None:
    answer = acme.client().post("/api/v1/workflows", body, content_type="application/json")

    assert answer.status_code == 400


def test_depth_bomb_is_refused(acme: World) -> None:
    bomb = json.loads('{"name":"x","steps":' + "[" * 500 + "]" * 500 + "}")

    assert post(acme.client(), "workflows", bomb).status_code == 400


def test_huge_spec_is_refused_as_too_large(acme: World) -> None:
    client = acme.client()

    over_format = post(client, "workflows", "name: x\n#" + "x" * 5_000_000)
    over_server = post(client, "workflows", "name: x\n#" + "x" * 7_000_000)

    assert (over_format.status_code, over_server.status_code) == (413, 413)
    assert over_server.json()["code"] == "too_large"
