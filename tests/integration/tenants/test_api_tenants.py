import uuid

import pytest
from django.test import Client

from tenants.models import AuditEntry
from tests.rest import call, get, made, post, problems, published
from tests.world import World


@pytest.fixture
def operator(acme: World) -> Client:
    acme.owner.is_superuser = True
    acme.owner.save(update_fields=["is_superuser"])
    return acme.browser()


def slug() -> str:
    return f"new-{uuid.uuid4().hex[:8]}"


def test_operator_makes_a_tenant_with_a_first_project(operator: Client) -> None:
    name = slug()

    answer = post(operator, "tenants", {"slug": name})

    assert answer.status_code == 201
    tenant = made(get(operator, answer.headers["Location"]))
    assert (tenant["slug"], tenant["status"]) == (name, "active")


def test_making_a_tenant_is_audited_with_its_maker(operator: Client, acme: World) -> None:
    tenant = made(post(operator, "tenants", {"slug": slug()}))

    entry = AuditEntry.objects.using("system").get(tenant_id=tenant["id"], action="tenant.created")
    assert entry.actor_label == acme.owner.username


def test_tenants_name_is_taken_once(operator: Client, acme: World) -> None:
    answer = post(operator, "tenants", {"slug": acme.tenant.slug})

    assert problems(answer) == {("/slug", "already_exists")}


def test_suspended_tenant_looks_but_starts_nothing(operator: Client, globex: World) -> None:
    published(globex)
    made(post(operator, f"tenants/{globex.tenant.id}/suspend", {"reason": "unpaid"}))

    refused = post(globex.client(), "runs", {"workflow": "greet", "input": {"name": "Ada"}})

    assert (refused.status_code, refused.json()["code"]) == (403, "tenant_suspended")
    assert "unpaid" in refused.json()["detail"]
    assert get(globex.client(), "workflows").status_code == 200


def test_resumed_tenant_starts_again(operator: Client, globex: World) -> None:
    published(globex)
    made(post(operator, f"tenants/{globex.tenant.id}/suspend"))
    made(post(operator, f"tenants/{globex.tenant.id}/resume"))

    answer = post(globex.client(), "runs", {"workflow": "greet", "input": {"name": "Ada"}})

    assert answer.status_code == 202


def test_operator_renames_a_tenant(operator: Client, globex: World) -> None:
    made(call(operator, "PATCH", f"tenants/{globex.tenant.id}", {"name": "Globex Inc."}))

    assert made(get(operator, f"tenants/{globex.tenant.id}"))["name"] == "Globex Inc."


def test_others_may_not_list_tenants(acme: World) -> None:
    assert get(acme.browser(), "tenants").status_code == 403


def test_operator_sets_a_tenants_share_and_limit(operator: Client, globex: World) -> None:
    url = f"/api/v1/tenants/{globex.tenant.id}"

    changed = operator.patch(url, {"weight": 5, "max_runs": 20}, content_type="application/json")

    assert (changed.json()["weight"], changed.json()["max_runs"]) == (5, 20)
    lifted = operator.patch(url, {"max_runs": None}, content_type="application/json")
    assert lifted.json()["max_runs"] is None


def test_share_and_limit_out_of_range_are_refused_together(operator: Client, globex: World) -> None:
    url = f"/api/v1/tenants/{globex.tenant.id}"

    refused = operator.patch(url, {"weight": 0, "max_runs": 0}, content_type="application/json")

    assert refused.status_code == 400
    assert {error["loc"] for error in refused.json()["errors"]} == {"/weight", "/max_runs"}
