"""What every new tenant may spend, whoever makes it."""

import uuid
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from costs.models import Budget
from tenants.models import AuditEntry, Tenant
from tenants.services.tenants import create_tenant
from tenants.signals import tenant_created
from tests.rest import made, post
from tests.world import World

USD = 10**9


@pytest.fixture
def operator(acme: World) -> Client:
    return acme.operator()


def new() -> str:
    return f"new-{uuid.uuid4().hex[:8]}"


def budgets_of(slug: str) -> list[Budget]:
    return list(Budget.objects.db_manager("system").filter(tenant__slug=slug))


def by_command(slug: str, operator: Client) -> None:
    call_command("create_tenant", slug)


def by_rest(slug: str, operator: Client) -> None:
    made(post(operator, "tenants", {"slug": slug}))


def by_admin(slug: str, operator: Client) -> None:
    given = {"slug": slug, "name": slug, "weight": 1, "max_runs": 5}
    assert operator.post(reverse("admin:tenants_tenant_add"), given).status_code == 302


@pytest.mark.parametrize("make", [by_command, by_rest, by_admin])
def test_new_tenant_has_the_operators_hard_budget_for_a_month(make: Any, operator: Client) -> None:
    slug = new()

    make(slug, operator)

    (budget,) = budgets_of(slug)
    assert (budget.scope, budget.interval, budget.limit_nano) == ("tenant", "month", 50 * USD)
    assert (budget.is_hard, budget.is_operators, budget.is_enabled) == (True, True, True)


def test_budget_is_audited_for_the_tenant(live_db: None) -> None:
    tenant = create_tenant(slug=new())

    entries = AuditEntry.objects.using("system").filter(tenant=tenant, action="budget.created")
    assert entries.count() == 1


@pytest.mark.parametrize(("limit", "limits"), [(None, []), (0, [0]), (7, [7])])
def test_operator_says_how_much(
    live_db: None, settings: Any, limit: int | None, limits: list[int]
) -> None:
    settings.MUSTER_DEFAULT_BUDGET_NANO = limit
    slug = new()

    create_tenant(slug=slug)

    assert [budget.limit_nano for budget in budgets_of(slug)] == limits


def test_no_tenant_is_made_without_what_it_is_to_begin_with(live_db: None) -> None:
    def fail(**_: Any) -> None:
        raise LookupError

    slug = new()
    tenant_created.connect(fail)
    try:
        with pytest.raises(LookupError):
            create_tenant(slug=slug)
    finally:
        tenant_created.disconnect(fail)

    assert not Tenant.objects.using("system").filter(slug=slug).exists()
    assert budgets_of(slug) == []
