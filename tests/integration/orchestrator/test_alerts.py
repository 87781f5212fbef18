"""What people are told about money: once, whoever looks, and by mail where there is a server."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from smtplib import SMTPServerDisconnected
from typing import Any

import pytest
from django.core import mail
from django.test import override_settings

from costs.core.money import NANO_PER_USD as USD
from costs.models import Budget, CostAlert
from orchestrator.execution import engine_db
from orchestrator.services import alerts
from tenants.kernel.clock import now
from tenants.models import User
from tests.integration.costs.test_budgets import budget, hold, set_limit, settle
from tests.ledger import charge
from tests.world import World

SERVER = override_settings(EMAIL_HOST="mail.example")


def spend(world: World, amount: int) -> None:
    settle(world, hold(world, amount), spent=amount)


def watch() -> None:
    # Without comparing days, for which nothing was spent here.
    alerts.Watcher(compares_at=float("inf")).watch()


def told(world: World) -> list[tuple[str, int, bool]]:
    with world.scope():
        found = CostAlert.objects.order_by("id")
        return [(alert.period, alert.threshold, alert.refuses) for alert in found]


def give_address(world: World, address: str) -> None:
    User.objects.using("system").filter(pk=world.owner.pk).update(email=address)


def due_again(world: World) -> None:
    engine_db.one(
        "UPDATE cost_alert SET mail_due_at = clock_timestamp() WHERE tenant_id = %s"
        " AND mail_due_at IS NOT NULL RETURNING id",
        world.tenant.id,
        alias="system",
    )


def test_each_threshold_is_told_once(acme: World) -> None:
    budget(acme, 100)
    spend(acme, 49)
    watch()
    assert told(acme) == []

    spend(acme, 31)
    watch()
    watch()

    assert told(acme) == [("total", 50, False), ("total", 80, False)]
    spend(acme, 20)
    watch()
    assert told(acme)[2:] == [("total", 100, False)]


def test_many_control_workers_tell_once(acme: World) -> None:
    budget(acme, 100, thresholds=[10, 20, 30])
    spend(acme, 30)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: watch(), range(24)))

    assert len(told(acme)) == 3


def test_budgets_have_thresholds_of_their_own(acme: World) -> None:
    budget(acme, 100, thresholds=[25])
    budget(acme, 100, thresholds=[], interval="day")
    spend(acme, 60)

    watch()

    assert told(acme) == [("total", 25, False)]


def test_each_day_is_told_of_anew(acme: World) -> None:
    budget(acme, 100, interval="day", thresholds=[50])
    spend(acme, 60)
    watch()
    for column in ("budget_period SET key", "cost_alert SET period"):
        yesterday = f"UPDATE {column} = '2020-01-01' WHERE tenant_id = %s RETURNING id"
        engine_db.one(yesterday, acme.tenant.id, alias="system")

    spend(acme, 60)
    watch()

    assert len(told(acme)) == 2


def test_exhausted_budget_is_told_of_though_it_is_not_spent_to_the_last(acme: World) -> None:
    budget(acme, 100)
    spend(acme, 60)
    assert hold(acme, 50)["verdict"] == "exhausted"

    watch()

    assert told(acme) == [("total", 50, False), ("total", 100, True)]


def test_raise_forgets_the_refusal(acme: World) -> None:
    kept = budget(acme, 100)
    hold(acme, 500)

    set_limit(acme, kept, 1000)
    watch()

    assert told(acme) == []


def test_busy_budget_is_not_exhausted(acme: World) -> None:
    budget(acme, 100)
    hold(acme, 60)
    assert hold(acme, 60)["verdict"] == "busy"

    watch()

    assert told(acme) == []


def test_soft_budget_tells_beyond_its_limit(acme: World) -> None:
    budget(acme, 100, is_hard=False, thresholds=[100, 150])
    spend(acme, 160)

    watch()

    assert told(acme) == [("total", 100, False), ("total", 150, False)]


def test_caps_of_runs_and_disabled_budgets_tell_nobody(acme: World) -> None:
    kept = budget(acme, 100)
    spend(acme, 60)
    with acme.scope():
        Budget.objects.filter(id=kept.id).update(is_enabled=False)

    watch()

    assert told(acme) == []


@SERVER
def test_owners_get_one_mail(acme: World, globex: World) -> None:
    give_address(acme, "ada@example.com")
    give_address(globex, "eve@example.com")
    budget(acme, 2 * USD, name="November\nBcc: x@example.com", thresholds=[50])
    spend(acme, USD)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: watch(), range(8)))

    (message,) = [m for m in mail.outbox if "November" in m.subject]
    assert message.subject == 'Budget "November Bcc: x@example.com" is 50 % spent (total)'
    assert message.recipients() == ["ada@example.com"]
    assert "1 USD of 2 USD" in message.body
    with acme.scope():
        assert CostAlert.objects.get().mailed_at is not None


@SERVER
def test_mail_that_fails_is_sent_later_under_the_same_id(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_address(acme, "ada@example.com")
    budget(acme, 100, name="Later", thresholds=[50])
    spend(acme, 60)

    def away(*_: Any, **__: Any) -> None:
        raise SMTPServerDisconnected("gone")

    with monkeypatch.context() as patched:
        patched.setattr("django.core.mail.EmailMessage.send", away)
        watch()
    alerts.deliver()
    assert [m for m in mail.outbox if "Later" in m.subject] == []

    due_again(acme)
    alerts.deliver()
    alerts.deliver()

    (message,) = [m for m in mail.outbox if "Later" in m.subject]
    with acme.scope():
        assert str(CostAlert.objects.get().id) in message.extra_headers["Message-ID"]


@SERVER
def test_alert_of_people_without_an_address_is_kept(acme: World) -> None:
    budget(acme, 100, thresholds=[50])
    spend(acme, 60)

    watch()

    with acme.scope():
        alert = CostAlert.objects.get()
    assert (alert.mailed_at, alert.mail_due_at, alert.mailed_to) == (None, None, 0)


def test_without_a_server_nothing_is_mailed_later_either(acme: World) -> None:
    give_address(acme, "ada@example.com")
    budget(acme, 100, name="Quiet", thresholds=[50])
    spend(acme, 60)
    watch()

    with SERVER:
        watch()

    assert [m for m in mail.outbox if "Quiet" in m.subject] == []


def test_unusual_day_is_told_once(acme: World, globex: World) -> None:
    for back in range(1, 15):
        charge(acme, held_at=now() - timedelta(days=back), amount_nano=USD)
        charge(globex, held_at=now() - timedelta(days=back), amount_nano=USD)
    charge(acme, amount_nano=50 * USD)
    charge(globex, amount_nano=2 * USD)

    alerts.Watcher().watch()
    alerts.Watcher().watch()

    with acme.scope():
        alert = CostAlert.objects.get()
    assert (alert.kind, alert.spent_nano) == ("unusual", 50 * USD)
    with globex.scope():
        assert not CostAlert.objects.exists()
