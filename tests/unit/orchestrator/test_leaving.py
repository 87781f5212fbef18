from datetime import timedelta
from uuid import UUID

import pytest
from django.test import override_settings

from orchestrator.execution import leases
from orchestrator.execution.leases import Lease
from orchestrator.services.leaving import most_hung


@pytest.fixture
def lease(monkeypatch: pytest.MonkeyPatch) -> Lease:
    monkeypatch.setattr(leases, "GRACE", timedelta(0))
    return Lease(UUID(int=1), 1)


def test_thread_hangs_that_holds_a_lost_lease_when_its_steps_time_is_over(lease: Lease) -> None:
    lease.expect_end(within_seconds=-1)

    assert not lease.is_hung
    lease.lose()
    assert lease.is_hung


def test_thread_that_lost_its_lease_before_its_time_is_over_does_not_hang(lease: Lease) -> None:
    lease.expect_end(within_seconds=100)
    lease.lose()

    assert not lease.is_hung


def test_thread_is_given_time_to_notice_that_its_lease_is_lost() -> None:
    lease = Lease(UUID(int=1), 1)
    lease.expect_end(within_seconds=-100)
    lease.lose()

    assert not lease.is_hung


@pytest.mark.parametrize(
    ("share", "threads", "hung"),
    [(0.25, 16, 4), (0.25, 6, 2), (0.25, 1, 1), (0.0, 8, 1), (2, 8, 16)],
)
def test_process_leaves_with_a_share_of_its_threads_but_not_with_none(
    share: float, threads: int, hung: int
) -> None:
    with override_settings(MUSTER_HUNG_SHARE=share):
        assert most_hung(threads) == hung
