"""Something that goes on beside a test."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connections


@contextmanager
def repeatedly(work: Callable[[], object], *, every: float) -> Iterator[None]:
    """Does it in a thread again and again, with pauses of so many seconds, until the block ends."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every):
            work()
        connections.close_all()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
