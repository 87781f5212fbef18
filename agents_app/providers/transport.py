"""The connections to providers and to what tools reach, with a deadline for a whole call.

SDK timeouts hold for each read, so a server that drips a byte now and then holds a thread for
ever. Here every socket operation waits at most until the deadline of the call that the thread
is in; that covers connect, TLS, headers and body. Name resolution alone is the system's.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore2
import httpx2
from django.conf import settings

from tenants.addresses import may_be_reached

MAX_ANSWER_BYTES = 32 * 1024 * 1024
_IDLE_CONNECTIONS = 100
_IDLE_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
# How soon a call that is to be cut short notices it.
_GLANCE_SECONDS = 0.5

_is_cut: ContextVar[Callable[[], bool]] = ContextVar("provider_call_is_cut", default=lambda: False)
_deadline: ContextVar[float | None] = ContextVar("provider_call_deadline", default=None)


@contextmanager
def total_deadline(seconds: float) -> Iterator[None]:
    """Let every provider connection that this thread uses inside end within `seconds`."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


@contextmanager
def cut_short_when(is_over: Callable[[], bool]) -> Iterator[None]:
    """Let the provider calls that this thread makes inside break off soon after `is_over`.

    They then fail like calls whose deadline has passed: what the provider did is in doubt.
    """
    token = _is_cut.set(is_over)
    try:
        yield
    finally:
        _is_cut.reset(token)


def wait(seconds: float) -> bool:
    """As long as a call takes that goes nowhere; False if it was cut short."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        threading.Event().wait(min(left, _GLANCE_SECONDS))
        if _is_cut.get()():
            return False
    return True


@cache
def tls_context() -> ssl.SSLContext:
    """The process's: to make one is to read all certificates of those who are trusted."""
    return httpx2.create_ssl_context()


def timeouts(seconds: float) -> httpx2.Timeout:
    """The per-operation timeouts of a call: an address that does not answer fails early."""
    return httpx2.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))


@cache
def shared_client() -> httpx2.Client:
    """The process's HTTP client; the SDK clients put their credentials on top of it."""
    return _client(lambda target: True)


@cache
def guarded_client() -> httpx2.Client:
    """The one for addresses that tenants name: it reaches nothing of the operator's network.

    It looks at the very address that a name resolves to and that it then connects to, so a name
    that changes its mind in between gains nothing. Its connections are apart from the others'.
    """
    return _client(
        lambda target: may_be_reached(target.address, allowed=settings.MUSTER_PRIVATE_NETWORKS)
    )


@dataclass(frozen=True, slots=True)
class Target:
    """Where a connection is about to lead: `address` is one that the name resolves to."""

    host: str
    port: int
    address: str


MayConnect = Callable[[Target], bool]


def _client(may_connect: MayConnect) -> httpx2.Client:
    return httpx2.Client(
        transport=DeadlineTransport(may_connect),
        # The environment's proxies and netrc are not for tenants' calls.
        trust_env=False,
        # A redirect would carry the key to another host.
        follow_redirects=False,
        # What a server sets for one tenant is not sent with another's calls.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"Accept-Encoding": "identity"},
    )


def _left(timeout: float | None, *, late: type[Exception]) -> float | None:
    deadline = _deadline.get()
    if deadline is None:
        return timeout
    left = deadline - time.monotonic()
    if left <= 0:
        raise late("the deadline of the call has passed")
    return left if timeout is None else min(timeout, left)


def addresses_of(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore2.ConnectError(f"cannot resolve {host}: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """In glances, between which it is seen whether the call is still wanted."""
        end = time.monotonic() + (timeout if timeout is not None else float("inf"))
        while True:
            # Looked at first, since an answer that is streamed keeps nobody waiting.
            if _is_cut.get()():
                raise httpcore2.ReadTimeout("the call was cut short")
            left = _left(max(end - time.monotonic(), 0.001), late=httpcore2.ReadTimeout)
            glance = min(left or _GLANCE_SECONDS, _GLANCE_SECONDS)
            try:
                return self._stream.read(max_bytes, glance)
            except httpcore2.ReadTimeout:
                if time.monotonic() >= end:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout, late=httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = _left(timeout, late=httpcore2.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore2.NetworkBackend):
    def __init__(self, may_connect: MayConnect) -> None:
        self._backend = httpcore2.SyncBackend()
        self._may_connect = may_connect

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        # Address by address, because the system's helper grants each of them the whole timeout.
        failure: Exception = httpcore2.ConnectError(f"no address for {host}")
        for address in addresses_of(host, port):
            if not self._may_connect(Target(host, port, address)):
                # Which address it is, is nobody's business outside.
                failure = httpcore2.ConnectError(f"{host} leads into a private network")
                continue
            left = _left(timeout, late=httpcore2.ConnectTimeout)
            try:
                return _Stream(
                    self._backend.connect_tcp(address, port, left, local_address, socket_options)
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


class _Body(httpx2.SyncByteStream):
    """An answer's bytes, which end in an error rather than fill the memory."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        with errors_of_httpx():
            for part in self._stream:
                received += len(part)
                if received > MAX_ANSWER_BYTES:
                    raise httpx2.RemoteProtocolError("the answer is too large")
                yield part

    def close(self) -> None:
        self._stream.close()


class DeadlineTransport(httpx2.BaseTransport):
    """httpx2's own transport does not let its network backend be chosen; this one does.

    It takes only what is not compressed, unless `is_unpacked_later`.
    """

    def __init__(self, may_connect: MayConnect, *, is_unpacked_later: bool = False) -> None:
        self._is_unpacked_later = is_unpacked_later
        self._pool = httpcore2.ConnectionPool(
            ssl_context=tls_context(),
            max_connections=None,
            max_keepalive_connections=_IDLE_CONNECTIONS,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=_Backend(may_connect),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        with errors_of_httpx():
            response = self._pool.handle_request(
                httpcore2.Request(
                    method=request.method,
                    url=httpcore2.URL(
                        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        answer = httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response.stream),
            extensions=response.extensions,
        )
        if self._is_unpacked_later:
            return answer
        # We asked for none, and a few compressed bytes can unpack to more than the memory.
        if answer.headers.get("content-encoding", "identity") != "identity":
            answer.close()
            raise httpx2.RemoteProtocolError("the answer is compressed")
        return answer

    def close(self) -> None:
        self._pool.close()


@contextmanager
def errors_of_httpx() -> Iterator[None]:
    """The two libraries name their errors alike; the SDKs know only httpx2's."""
    try:
        yield
    except httpcore2.LocalProtocolError:
        # Its text holds the header that is wrong, which may be a secret.
        raise httpx2.LocalProtocolError("the request, or a header of it, breaks HTTP") from None
    except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        raise getattr(httpx2, type(error).__name__)(str(error)) from error
