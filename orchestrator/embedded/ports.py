"""Free TCP ports, found by binding them."""

from __future__ import annotations

import random
import socket

from orchestrator.embedded.errors import EmbeddedError, PortTakenError

LOOPBACK = "127.0.0.1"
# Above 32768 the kernel hands ports to outgoing connections, which then collide with servers.
LOWEST, HIGHEST = 15000, 32767


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection that lingers in TIME_WAIT does not take the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def accepts(port: int, *, timeout: float = 0.5) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=timeout):
            return True
    except OSError:
        return False


def free_port(*, preferred: int | None = None, taken: frozenset[int] = frozenset()) -> int:
    """The preferred port if it is free, else a random free one outside `taken`.

    Another process may still take it before the server binds it: start the server again then.
    """
    if preferred is not None and preferred not in taken and is_free(preferred):
        return preferred
    for port in random.sample(range(LOWEST, HIGHEST), 200):
        if port not in taken and is_free(port):
            return port
    raise EmbeddedError(f"No free port between {LOWEST} and {HIGHEST} on {LOOPBACK}.")


def required_port(port: int, *, variable: str) -> int:
    """The port that the user asked for by `variable`, or the error that says it is taken."""
    if not is_free(port):
        raise PortTakenError(port, variable)
    return port
