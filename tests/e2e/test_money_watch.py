"""Control workers tell of money in seconds and once, and compare the books, by themselves."""

from pathlib import Path

from costs.models import CostAlert, LedgerCheck
from tests import workers
from tests.eventually import eventually
from tests.integration.costs.test_budgets import budget, hold, settle
from tests.world import World


def told(world: World) -> list[int]:
    with world.scope():
        return sorted(CostAlert.objects.values_list("threshold", flat=True))


def test_threshold_is_told_within_seconds_though_a_control_worker_dies(
    acme: World, log_dir: Path
) -> None:
    LedgerCheck.objects.using("system").exclude(night=None).delete()
    budget(acme, 100)

    with workers.control("watch-1", log_dir) as first, workers.control("watch-2", log_dir) as other:
        first.kill()
        settle(acme, hold(acme, 85), spent=85)

        eventually(lambda: told(acme) == [50, 80], within=15)
        nights = LedgerCheck.objects.using("system").exclude(night=None)
        eventually(lambda: nights.count() == 1)

        assert "periodic_work_failed" not in other.log.read_text()
