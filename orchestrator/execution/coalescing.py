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
    awake: threading.Event = field(default_factory=threading.Event)
    outcome: Callable[[], Result] | None = None


class Coalescer(Generic[Item, Result]):
    """Runs `work` on batches of items, one batch at a time, each in the thread of a caller.

    A lone call goes at once, as a batch of one. Callers that come meanwhile queue up; the first
    of them then leads a batch of those that share its key. `work` gives a result for each item,
    in order. If a batch fails, each of its items is tried alone, so that nobody fails for another.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        key: Callable[[Item], Hashable],
        most: int,
    ) -> None:
        self._work = work
        self._key = key
        self._most = most
        self._guard = threading.Lock()
        self._waiting: list[_Waiter[Item, Result]] = []
        self._is_led = False

    def __call__(self, item: Item) -> Result:
        me = _Waiter[Item, Result](item)
        with self._guard:
            self._waiting.append(me)
            leads = not self._is_led
            self._is_led = True
        if not leads:
            me.awake.wait()
        outcome = me.outcome or self._lead(me)
        return outcome()

    def _lead(self, me: _Waiter[Item, Result]) -> Callable[[], Result]:
        batch = self._take(me)
        try:
            self._run(batch)
        finally:
            self._hand_over()
            for waiter in batch:
                waiter.awake.set()
        return me.outcome or _raising(RuntimeError("the batch left a call without an outcome"))

    def _take(self, me: _Waiter[Item, Result]) -> list[_Waiter[Item, Result]]:
        key = self._key(me.item)
        with self._guard:
            alike = [waiter for waiter in self._waiting if self._key(waiter.item) == key]
            batch = alike[: self._most]
            if me not in batch:
                batch[-1:] = [me]
            self._waiting = [waiter for waiter in self._waiting if waiter not in batch]
        return batch

    def _hand_over(self) -> None:
        with self._guard:
            heir = self._waiting[0] if self._waiting else None
            self._is_led = heir is not None
        if heir:
            heir.awake.set()

    def _run(self, batch: Sequence[_Waiter[Item, Result]]) -> None:
        try:
            results = self._work([waiter.item for waiter in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].outcome = _raising(error)
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
