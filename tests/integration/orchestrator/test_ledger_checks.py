import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from io import StringIO
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connections
from django.urls import reverse

from costs.models import CostEntry, LedgerCheck, LedgerDifference, TenantPrice
from orchestrator.execution import engine_db
from orchestrator.models import LlmCall
from orchestrator.services import ledger_checks
from orchestrator.services.workflows import publish_spec
from tests.e2e.stories import simulated, start
from tests.engine_driver import drain, drain_all, run_of
from tests.integration.costs.test_budgets import budget, hold, state
from tests.integration.orchestrator.test_engine_late_answers import Late
from tests.ledger import charge
from tests.world import World

ALL = "SELECT * FROM muster_check_ledger(1000000)"
CHILD = {"muster": 1, "name": "child", "steps": {"c": simulated("inner")}}


def differences(world: World) -> list[tuple[str, UUID, int, int]]:
    """Those of a tenant; other tests write rows by hand that never agreed."""
    return [
        (row["rule"], row["object_id"], row["expected"], row["found"])
        for row in engine_db.many(ALL, alias="system")
        if row["tenant_id"] == world.tenant.id
    ]


def change(statement: str, *arguments: object) -> None:
    """As nobody can but the owner of the tables."""
    with connections["owner"].cursor() as cursor:
        cursor.execute(statement, arguments)


@pytest.fixture
def priced(acme: World) -> World:
    with acme.scope():
        TenantPrice.objects.create(
            provider="simulated", model="*", valid_from=date(2026, 1, 1), input_usd=3, output_usd=15
        )
    return acme


@pytest.fixture
def run_id(priced: World) -> UUID:
    run_id = start(priced, {"a": simulated("one"), "b": simulated("two", ["a"])})
    assert drain(priced, run_id).cost_nano > 0
    return run_id


def call_of(world: World, run_id: UUID) -> LlmCall:
    with world.scope():
        return LlmCall.objects.filter(run_id=run_id).first()


def test_books_of_finished_runs_agree(priced: World, run_id: UUID) -> None:
    assert differences(priced) == []


def test_books_agree_while_a_call_is_open_in_doubt_and_corrected(priced: World) -> None:
    late = Late(priced)
    assert differences(priced) == []

    late.hears()

    assert [call.status for call in late.calls] == ["closed"]
    assert differences(priced) == []


def test_books_of_runs_within_runs_agree(priced: World) -> None:
    with priced.scope():
        publish_spec(project=priced.project, spec=CHILD)
    run_id = start(priced, {"sub": {"workflow": "child"}, "own": simulated("outer", ["sub"])})

    assert drain_all(priced, run_id).cost_nano > 0
    assert differences(priced) == []


def test_missing_line_is_found(priced: World, run_id: UUID) -> None:
    call = call_of(priced, run_id)
    change("DELETE FROM cost_entry WHERE call_id = %s", call.id)

    assert differences(priced) == [("call_without_line", call.id, call.cost_nano, 0)]


def test_line_of_an_unknown_call_is_found(priced: World, run_id: UUID) -> None:
    entry = charge(priced, run_id=run_id)

    assert differences(priced) == [("line_without_call", entry.call_id, 0, 400_000)]


def test_lines_of_runs_that_are_gone_are_no_difference(priced: World) -> None:
    charge(priced)

    assert differences(priced) == []


def test_line_of_an_open_call_is_found(priced: World) -> None:
    late = Late(priced)
    change("UPDATE llm_call SET status = 'open' WHERE agent_run_id = %s", late.agent_run)

    ((rule, *_),) = differences(priced)
    assert rule == "call_and_lines"


def test_wrong_kind_of_line_is_found_at_the_same_amount(priced: World, run_id: UUID) -> None:
    call = call_of(priced, run_id)
    change("ALTER TABLE cost_entry DISABLE TRIGGER append_only")
    change("UPDATE cost_entry SET kind = 'in_doubt' WHERE call_id = %s", call.id)
    change("ALTER TABLE cost_entry ENABLE TRIGGER append_only")

    assert [rule for rule, *_ in differences(priced)] == ["call_and_lines"]


def test_wrong_total_of_a_call_of_a_step_and_of_a_run_is_found(priced: World, run_id: UUID) -> None:
    call, total = call_of(priced, run_id), run_of(priced, run_id).cost_nano
    change("UPDATE llm_call SET cost_nano = cost_nano + 1 WHERE id = %s", call.id)
    change("UPDATE run SET cost_nano = cost_nano + 5 WHERE id = %s", run_id)

    assert sorted(differences(priced)) == sorted(
        [
            ("call_and_lines", call.id, call.cost_nano + 1, call.cost_nano),
            ("agent_run_and_calls", call.agent_run_id, call.cost_nano + 1, call.cost_nano),
            ("run_and_agent_runs", run_id, total, total + 5),
        ]
    )


def test_budgets_agree_with_the_calls_that_they_held(priced: World) -> None:
    kept = budget(priced, 10**12)
    drain(priced, start(priced, {"a": simulated("more")}))

    assert state(priced, kept)[0] > 0
    assert differences(priced) == []


def test_budget_that_is_off_is_found(priced: World) -> None:
    kept = budget(priced, 10**12)
    held = hold(priced, 7)

    ((rule, period, expected, found),) = differences(priced)

    assert (rule, [period]) == ("budget_held_and_calls", held["periods"])
    assert (expected, found, state(priced, kept)[1]) == (0, 7, 7)


def test_check_is_made_once_a_night_whoever_asks(live_db: None) -> None:
    LedgerCheck.objects.using("system").exclude(night=None).delete()

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: ledger_checks.nightly(), range(12)))

    assert sum(checked is not None for checked in made) == 1
    assert LedgerCheck.objects.using("system").exclude(night=None).count() == 1


def test_next_night_is_checked_anew_and_old_checks_are_forgotten(live_db: None) -> None:
    ledger_checks.nightly()
    change(
        "UPDATE ledger_check SET night = night - 200, finished_at = finished_at - interval '200 d'"
        " WHERE night IS NOT NULL"
    )

    assert ledger_checks.nightly() is not None
    assert LedgerCheck.objects.using("system").exclude(night=None).count() == 1


@pytest.fixture
def differing(priced: World, run_id: UUID) -> World:
    # More than any other test is off by, so that it is among those that are kept.
    change("UPDATE run SET cost_nano = cost_nano + 10 ^ 15 WHERE id = %s", run_id)
    return priced


def test_differences_are_kept_told_and_answered_with_failure(
    differing: World, run_id: UUID
) -> None:
    out = StringIO()
    with pytest.raises(SystemExit) as left:
        call_command("check_ledger", "--json", stdout=out)

    told = json.loads(out.getvalue())
    kept = LedgerDifference.objects.using("system").filter(ledger_check_id=told["id"])
    assert (left.value.code, told["agrees"]) == (1, False)
    assert str(run_id) in {row["object_id"] for row in told["largest"]}
    assert kept.filter(rule="run_and_agent_runs", object_id=run_id).exists()
    change("UPDATE run SET cost_nano = cost_nano - 10 ^ 15 WHERE id = %s", run_id)


def test_operator_sees_where_the_books_differ(differing: World, run_id: UUID) -> None:
    checked = ledger_checks.check_ledger()
    change("UPDATE run SET cost_nano = cost_nano - 10 ^ 15 WHERE id = %s", run_id)
    operator = differing.operator()
    address = reverse("admin:costs_ledgercheck_change", args=[checked.check["id"]])

    shown = operator.get(address).content.decode()
    listed = operator.get(reverse("admin:costs_ledgercheck_changelist")).content.decode()

    assert str(run_id) in shown
    assert "run and agent runs" in shown
    assert "differences" in listed
    assert differing.browser().get(address).status_code == 404


def test_tenant_sees_none_of_anothers_differences(differing: World, globex: World) -> None:
    ledger_checks.check_ledger()

    with globex.scope():
        assert not LedgerDifference.objects.exists()
    with differing.scope():
        assert LedgerDifference.objects.exists()
        assert not CostEntry.objects.filter(tenant=globex.tenant).exists()
