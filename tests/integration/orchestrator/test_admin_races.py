"""Two people save the same at once: the slower one is told at its field what is taken."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections
from django.http import HttpResponse

from orchestrator.models import RateLimit
from orchestrator.services.budgets import create_budget
from tenants.services.credentials import create_credential
from tests.eventually import eventually
from tests.integration.orchestrator.test_admin_budgets import FORM
from tests.integration.orchestrator.test_engine_resume import blocked_by
from tests.world import World

LIMIT = {"scope": "tenant", "unit": "requests", "period": "minute", "limit": "60"}
KEY = {"name": "main", "provider": "openai"}
SECRET = "sk-acme-0123456789-aaaa"


@pytest.mark.parametrize(
    ("make", "page", "given", "told"),
    [
        (
            lambda: RateLimit.objects.create(**{**LIMIT, "limit": 60}),
            "orchestrator/ratelimit",
            {**LIMIT, "counting": "bucket"},
            "There is a limit on this unit and period for the same scope",
        ),
        (
            lambda: create_budget(scope="tenant", interval="month", limit_nano=1, name="Whole"),
            "costs/budget",
            FORM,
            "change that one",
        ),
        (
            lambda: create_credential(**KEY, secret=SECRET),
            "tenants/credential",
            {**KEY, "new_secret": SECRET, "enabled": "on"},
            "already",
        ),
    ],
)
def test_slower_one_is_told_at_the_field(
    acme: World, make: Callable[[], Any], page: str, given: dict[str, str], told: str
) -> None:
    client = acme.browser()

    def save() -> HttpResponse:
        try:
            return client.post(f"/admin/{page}/add/", given)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as other:
        with acme.scope():
            row = make()
            answer = other.submit(save)
            eventually(lambda: answer.done() or blocked_by(connection.connection))
        shown = answer.result(20)

    assert shown.status_code == 200
    assert told in shown.content.decode()
    with acme.scope():
        assert type(row).objects.count() == 1
