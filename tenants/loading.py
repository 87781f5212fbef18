"""Reading what many threads need at the same moment, once."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SingleFlight(Generic[Key, Value]):
    """Runs `load` once for all threads that ask for a key while it is under way.

    They share what it gives, its failure included; the next to ask begins anew.
    """

    def __init__(self, load: Callable[[Key], Value]) -> None:
        self._load = load
        self._guard = threading.Lock()
        self._under_way: dict[Key, Future[Value]] = {}

    def __call__(self, key: Key) -> Value:
        mine: Future[Value] = Future()
        with self._guard:
            found = self._under_way.setdefault(key, mine)
        if found is mine:
            self._run(key, mine)
        return found.result()

    def _run(self, key: Key, future: Future[Value]) -> None:
        try:
            future.set_result(self._load(key))
        except BaseException as error:
            future.set_exception(error)
        finally:
            with self._guard:
                del self._under_way[key]
