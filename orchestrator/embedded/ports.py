"""Free TCP ports, found by binding them."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable

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


class Claims:
    """Ports set aside from other supervisors, between choosing them and binding them, and after.

    A claim is a name in the machine's abstract socket space, which the kernel frees with its owner.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def take(self, port: int) -> bool:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._held.append(claim)
        try:
            claim.bind(f"\0muster-port-{port}")
        except OSError:
            return False
        return is_free(port)

    def release(self) -> None:
        for claim in self._held:
            claim.close()
        self._held.clear()


def free_port(*, preferred: int | None = None, may_have: Callable[[int], bool] = is_free) -> int:
    """The preferred port if it may be had, else a random one.

    Without a claim another process may still take it before the server binds it.
    """
    if preferred is not None and may_have(preferred):
        return preferred
    for port in random.sample(range(LOWEST, HIGHEST), 200):
        if may_have(port):
            return port
    raise EmbeddedError(f"No free port between {LOWEST} and {HIGHEST} on {LOOPBACK}.")


def required_port(port: int, *, variable: str, may_have: Callable[[int], bool] = is_free) -> int:
    """The port that the user asked for by `variable`, or the error that says it is taken."""
    if not may_have(port):
        raise PortTakenError(port, variable)
    return port
