"""Calls that arrive while one is under way go together in the next: one round trip for many."""

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NoReturn, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Waiter(Generic[Item, Result]):
    """A call and the thread behind it. It wakes up with an outcome, or as the next leader."""

    item: Item
    # Held until it is to wake up: an Event does the same for five times the cost.
    asleep: threading.Lock = field(default_factory=threading.Lock)
    outcome: Callable[[], Result] | None = None


class Coalescer(Generic[Item, Result]):
    """Runs `work` on batches of items with the same key, each in the thread of a caller.

    A lone call goes at once, as a batch of one. Callers with its key that come meanwhile queue
    up; the first of them then leads the next batch. Keys do not wait for each other. `work` gives
    a result for each item, in order. If a batch fails, each of its items is tried alone, so that
    nobody fails for another; unless the failure `concerns_all`, whatever was asked.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        key: Callable[[Item], Hashable],
        most: int,
        concerns_all: Callable[[Exception], bool] = lambda _: False,
    ) -> None:
        self._work = work
        self._key = key
        self._most = most
        self._concerns_all = concerns_all
        self._guard = threading.Lock()
        # Who waits, for each key whose batch is under way.
        self._waiting: dict[Hashable, list[_Waiter[Item, Result]]] = {}

    def __call__(self, item: Item) -> Result:
        me = _Waiter[Item, Result](item)
        key = self._key(item)
        with self._guard:
            leads = key not in self._waiting
            if leads:
                self._waiting[key] = []
            else:
                me.asleep.acquire()
                self._waiting[key].append(me)
        if not leads:
            me.asleep.acquire()
        outcome = me.outcome or self._lead(me, key)
        return outcome()

    def _lead(self, me: _Waiter[Item, Result], key: Hashable) -> Callable[[], Result]:
        batch = [me, *self._take(key)]
        try:
            self._run(batch)
        finally:
            self._hand_over(key)
            for waiter in batch[1:]:
                waiter.asleep.release()
        return me.outcome or _raising(RuntimeError("the batch left a call without an outcome"))

    def _take(self, key: Hashable) -> list[_Waiter[Item, Result]]:
        with self._guard:
            waiting = self._waiting[key]
            taken = waiting[: self._most - 1]
            del waiting[: self._most - 1]
        return taken

    def _hand_over(self, key: Hashable) -> None:
        with self._guard:
            waiting = self._waiting[key]
            heir = waiting.pop(0) if waiting else None
            if heir is None:
                del self._waiting[key]
        if heir:
            heir.asleep.release()

    def _run(self, batch: Sequence[_Waiter[Item, Result]]) -> None:
        try:
            results = self._work([waiter.item for waiter in batch])
        except Exception as error:
            if len(batch) == 1 or self._concerns_all(error):
                for waiter in batch:
                    waiter.outcome = _raising(error)
                return
            for waiter in batch:
                self._run([waiter])
            return
        for waiter, result in zip(batch, results, strict=True):
            waiter.outcome = _giving(result)


def _giving(result: Result) -> Callable[[], Result]:
    return lambda: result


def _raising(error: Exception) -> Callable[[], NoReturn]:
    def fail() -> NoReturn:
        raise error

    return fail
