"""Every page of the admin that shows one object, found from the URL configuration."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse

from agents_app.core.memory import MemoryScope
from agents_app.models import Agent, McpServer, PromptTemplate
from agents_app.services.memory import teach
from costs.models import Budget, CostAlert, CostEntry, LedgerCheck, PlatformPrice, TenantPrice
from orchestrator.models import CallSettings, PlatformRateLimit, RateLimit
from tenants.models import ApiKey, AuditEntry, Membership, Project
from tests.filled import asked, batched, credential
from tests.run_rows import make_run, published, wide_spec
from tests.world import World

MARK = "only-acme-knows"
# Nobody deletes history: closed to its owner too.
CLOSED = {
    "orchestrator_callsettings_delete",
    "orchestrator_approval_delete",
    "orchestrator_run_delete",
    "orchestrator_runbatch_delete",
    "tenants_apikey_delete",
    "tenants_auditentry_delete",
    "costs_costalert_delete",
    "costs_costentry_delete",
}
CLOSED_TO_OPERATORS = {
    "costs_ledgercheck_delete",
    "tenants_tenant_delete",
    "tenants_user_delete",
}
# A tenant looks, and only operators change.
CLOSED_TO_TENANTS = {"costs_tenantprice_delete"}


def object_pages() -> Iterator[tuple[str, str]]:
    """Name and model of every page below an object."""
    for resolver in admin.site.urls[0]:
        if not isinstance(resolver, URLResolver):
            continue
        model = str(resolver.pattern).strip("/")
        for page in resolver.url_patterns:
            if (
                isinstance(page, URLPattern)
                and "object_id" in page.pattern.converters
                and page.name
            ):
                yield page.name, model


PAGES = sorted(set(object_pages()))


@pytest.fixture
def objects(acme: World) -> dict[str, Any]:
    """One row of Acme's for every model that has pages."""
    # Of a model that no other test calls.
    platform_price, _ = PlatformPrice.objects.get_or_create(
        provider="openai", model=MARK, valid_from=date(2026, 1, 1), input_usd=1, output_usd=1
    )
    version = published(acme)
    run = make_run(acme, version, "completed", status="completed")
    acme.key()
    with acme.scope():
        rows = {
            "orchestrator/run": run,
            "orchestrator/runbatch": batched(run),
            "orchestrator/approval": asked(run, question=MARK),
            "orchestrator/ratelimit": RateLimit.objects.create(
                scope="tenant", unit="requests", period="hour", limit=9
            ),
            "orchestrator/platformratelimit": PlatformRateLimit.objects.create(
                scope="tenant", for_tenant=acme.tenant, unit="requests", period="hour", limit=9
            ),
            "orchestrator/callsettings": CallSettings.objects.create(),
            "orchestrator/workflow": published(acme, wide_spec(1, 1)).workflow,
            "agents_app/agent": Agent.objects.create(slug=MARK, name=MARK, prompt="Hello"),
            "agents_app/memoryentry": teach(
                scope=MemoryScope.TENANT, kind="note", content={"note": MARK}
            ),
            "agents_app/prompttemplate": PromptTemplate.objects.create(
                name=MARK, task="${objective}"
            ),
            "agents_app/mcpserver": McpServer.objects.create(name=MARK, url="https://mcp.invalid"),
            "costs/budget": Budget.objects.create(name=MARK, scope="tenant", limit_nano=1),
            "costs/costalert": CostAlert.objects.create(
                kind="unusual", period="2026-11-21", spent_nano=1, limit_nano=1
            ),
            "costs/costentry": CostEntry.objects.filter(tenant=acme.tenant).first(),
            "costs/tenantprice": TenantPrice.objects.create(
                provider="x", model=MARK, valid_from=date(2026, 1, 1), input_usd=1, output_usd=1
            ),
            "costs/platformprice": platform_price,
            "costs/ledgercheck": LedgerCheck.objects.create(
                lines=1, calls=1, agent_runs=1, runs=1, difference_count=0
            ),
            "tenants/project": Project.objects.create(slug=MARK, name=MARK),
            "tenants/membership": Membership.objects.get(user=acme.owner),
            "tenants/apikey": ApiKey.objects.first(),
            "tenants/credential": credential(),
            "tenants/auditentry": AuditEntry.objects.filter(tenant=acme.tenant).first(),
        }
    return {**rows, "tenants/tenant": acme.tenant, "tenants/user": acme.owner}


@pytest.fixture
def operator(acme: World) -> Client:
    return acme.operator()


def visit(client: Client, url: str) -> int:
    """The status of a page, or of pressing its button where it is only that."""
    status = client.get(url).status_code
    return client.post(url, follow=True).status_code if status == 405 else status


def address(page: str, row: Any) -> str:
    arguments: list[Any] = [row.pk]
    if "version" in page:
        arguments.append(1)
    return reverse(f"admin:{page}", args=arguments)


@pytest.mark.parametrize(("page", "model"), PAGES, ids=[page for page, _ in PAGES])
def test_stranger_gets_404_where_the_owner_gets_the_page(
    page: str, model: str, objects: dict[str, Any], operator: Client, globex: World
) -> None:
    url = address(page, objects[model])

    assert visit(operator, url) == (403 if page in CLOSED | CLOSED_TO_OPERATORS else 200)
    assert visit(globex.browser(), url) == (403 if page in CLOSED | CLOSED_TO_TENANTS else 404)


@pytest.mark.parametrize("page", ["orchestrator_run_change", "orchestrator_workflow_change"])
def test_owner_who_is_no_operator_gets_the_page(
    page: str, objects: dict[str, Any], acme: World
) -> None:
    model = "/".join(page.split("_")[:2])

    assert visit(acme.browser(), address(page, objects[model])) == 200


LISTS = sorted(page + "list" for page, _ in PAGES if page.endswith("_change"))


@pytest.mark.parametrize("page", LISTS)
def test_lists_show_a_stranger_nothing_of_it(
    page: str, objects: dict[str, Any], operator: Client, globex: World
) -> None:
    url = reverse(f"admin:{page}")
    assert operator.get(url).status_code == 200

    answer = globex.browser().get(url)

    assert answer.status_code in (200, 404)
    shown = answer.content.decode()
    assert MARK not in shown
    own = [row for row in objects.values() if not isinstance(row, PlatformPrice)]
    assert not [row for row in own if str(row.pk) in shown]


@pytest.mark.parametrize(("page", "model"), PAGES, ids=[page for page, _ in PAGES])
def test_pages_need_a_login(page: str, model: str, objects: dict[str, Any]) -> None:
    answer = Client().get(address(page, objects[model]))

    assert answer.status_code in (302, 405)


@pytest.mark.parametrize("nonsense", ["x", "0", "\x00", "1e400", "../../etc"])
def test_nonsense_is_not_found(acme: World, nonsense: str) -> None:
    url = reverse("admin:orchestrator_run_change", args=["x"]).replace("/x/", f"/{nonsense}/")

    assert acme.browser().get(url).status_code == 404
