import pytest

from orchestrator.core.batch import batch_status


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ({"pending": 2}, "pending"),
        ({"pending": 1, "completed": 1}, "running"),
        ({"pending": 1, "running": 1}, "running"),
        ({"paused": 1}, "running"),
        ({"completed": 3}, "completed"),
        ({"completed": 1, "failed": 1}, "partially_completed"),
        ({"partially_completed": 1}, "partially_completed"),
        ({"cancelled": 1, "completed": 1}, "partially_completed"),
        ({"failed": 2}, "failed"),
        ({"cancelled": 1, "failed": 1}, "failed"),
        ({"budget_exceeded": 1}, "failed"),
        ({"cancelled": 2}, "cancelled"),
        ({}, "completed"),
        ({"failed": 0, "completed": 1}, "completed"),
    ],
)
def test_runs_have_one_status(counts: dict[str, int], status: str) -> None:
    assert batch_status(counts) == status
