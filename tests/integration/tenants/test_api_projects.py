from tests.world import World


def post(client, path, body, **headers):
    return client.post(f"/api/v1/{path}", body, content_type="application/json", headers=headers)


def test_project_is_created_and_found_at_its_location(acme: World) -> None:
    client = acme.client()

    created = post(client, "projects", {"slug": "billing", "name": "Billing"})

    assert created.status_code == 201, created.content
    found = client.get(created.headers["Location"]).json()
    assert (found["slug"], found["name"]) == ("billing", "Billing")


def test_all_problems_of_a_body_are_told_at_once(acme: World) -> None:
    answer = post(acme.client(), "projects", {"slug": "No Slug", "name": 5, "colour": "red"})

    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["title"]) == ("invalid_input", "Invalid input")
    assert problem["request_id"]
    assert {(error["loc"], error["code"]) for error in problem["errors"]} == {
        ("/slug", "invalid"),
        ("/name", "invalid"),
        ("/colour", "unknown_field"),
    }
