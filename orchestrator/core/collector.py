"""Pauses Python's collector of reference cycles while a large document is read or checked."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collector() -> Iterator[None]:
    """Nothing that is built inside is garbage, yet the collector would walk it again and again.

    A third of the time goes into that for 10,000 steps. Where threads overlap, the first to
    leave may start the collector early, which costs time and nothing else.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
