"""Who hears an answer while it is being written: one listener for the calls of a thread."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Given the text piece by piece, in order. It neither raises nor waits.
Listener = Callable[[str], None]

_listener: ContextVar[Listener | None] = ContextVar("provider_call_listener", default=None)


@contextmanager
def heard_by(listener: Listener | None) -> Iterator[None]:
    """Have the provider calls that this thread makes inside stream their text to a listener.

    A client, or a server, that cannot stream gives its answer in one piece at the end.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def listener() -> Listener | None:
    """Who hears the call that is being made; None where it need not be streamed."""
    return _listener.get()
