import threading
from collections.abc import Callable, Sequence

import pytest

from orchestrator.execution.coalescing import Coalescer


class Work:
    """Doubles numbers; holds its first batch until it is let go."""

    def __init__(self, *, fails_on: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.began = threading.Event()
        self.go = threading.Event()
        self._fails_on = fails_on

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        if len(self.batches) == 1:
            self.began.set()
            assert self.go.wait(10)
        if self._fails_on in items:
            raise ValueError(f"cannot double {self._fails_on}")
        return [item * 2 for item in items]


def gather(
    call: Callable[[int], int], work: Work, items: Sequence[int], *, waiting: int | None = None
) -> dict[int, object]:
    """Call with the first item, then with all others while the first is under way."""
    waiting = len(items) - 1 if waiting is None else waiting
    results: dict[int, object] = {}

    def one(item: int) -> None:
        try:
            results[item] = call(item)
        except ValueError as error:
            results[item] = str(error)

    threads = [threading.Thread(target=one, args=[item]) for item in items]
    threads[0].start()
    assert work.began.wait(10)
    for thread in threads[1:]:
        thread.start()
    coalescer = call
    while sum(map(len, coalescer._waiting.values())) < waiting:  # type: ignore[attr-defined]
        threading.Event().wait(0.001)
    work.go.set()
    for thread in threads:
        thread.join(10)
    return results


def coalescer(work: Work, *, most: int = 16, key: Callable[[int], object] = lambda _: 0):
    return Coalescer(work, key=key, most=most)


def test_lone_call_goes_at_once() -> None:
    work = Work()
    work.go.set()

    assert coalescer(work)(21) == 42


def test_calls_that_come_meanwhile_share_one_batch() -> None:
    work = Work()

    results = gather(coalescer(work), work, [1, 2, 3, 4])

    assert results == {1: 2, 2: 4, 3: 6, 4: 8}
    assert [sorted(batch) for batch in work.batches] == [[1], [2, 3, 4]]


def test_batches_are_bounded() -> None:
    work = Work()

    results = gather(coalescer(work, most=2), work, [1, 2, 3, 4, 5])

    assert results == {n: n * 2 for n in range(1, 6)}
    assert max(map(len, work.batches)) == 2


def test_batches_never_mix_keys() -> None:
    work = Work()

    gather(coalescer(work, key=lambda n: n % 2), work, [1, 2, 3, 4, 5], waiting=2)

    assert all(len({n % 2 for n in batch}) == 1 for batch in work.batches)


def test_keys_do_not_wait_for_each_other() -> None:
    work = Work()
    call = coalescer(work, key=lambda n: n)
    held = threading.Thread(target=call, args=[1])
    held.start()
    assert work.began.wait(10)

    assert call(2) == 4

    work.go.set()
    held.join(10)


def test_failing_item_fails_alone() -> None:
    work = Work(fails_on=3)

    results = gather(coalescer(work), work, [1, 2, 3, 4])

    assert results == {1: 2, 2: 4, 3: "cannot double 3", 4: 8}


@pytest.mark.parametrize("count", [200])
def test_crowd_is_served_completely(count: int) -> None:
    work = Work()
    work.go.set()
    call = coalescer(work, most=8)
    results: list[int] = []
    threads = [threading.Thread(target=lambda n=n: results.append(call(n))) for n in range(count)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert sorted(results) == [n * 2 for n in range(count)]


def test_failure_that_concerns_all_is_not_tried_again_for_each() -> None:
    work = Work(fails_on=3)
    call = Coalescer(work, key=lambda _: 0, most=16, concerns_all=lambda _: True)

    results = gather(call, work, [1, 2, 3, 4])

    assert results == {1: 2, **dict.fromkeys([2, 3, 4], "cannot double 3")}
    assert len(work.batches) == 2
