"""Stands before the real database, and behaves as a hostile one may."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_PART = 64 * 1024


@dataclass(slots=True)
class DatabaseProxy:
    """Hands on what both say, until it has seen `silent_after` in an answer: then no word more
    reaches the database. `answered` is how many bytes of answers were taken from it."""

    database: tuple[str, int]
    silent_after: bytes = b""
    answered: int = 0
    is_silent: bool = False
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _open: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        self._begin(self._accept)

    def stop(self) -> None:
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._open):
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self.database)
                self._open += (client, server)
                self._begin(self._ask, client, server)
                self._begin(self._answer, server, client)

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while part := client.recv(_PART):
                if not self.is_silent:
                    server.sendall(part)
            if not self.is_silent:
                server.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while part := server.recv(_PART):
                if self.silent_after and self.silent_after in part:
                    self.is_silent = True
                self.answered += len(part)
                client.sendall(part)

    def _begin(self, work: Callable[..., None], *given: socket.socket) -> None:
        thread = threading.Thread(target=work, args=given, daemon=True)
        self._threads.append(thread)
        thread.start()


@contextmanager
def database_proxy(port: int, *, silent_after: bytes = b"") -> Iterator[DatabaseProxy]:
    proxy = DatabaseProxy(("127.0.0.1", port), silent_after)
    proxy.serve()
    try:
        yield proxy
    finally:
        proxy.stop()
