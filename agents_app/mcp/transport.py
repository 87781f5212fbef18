"""HTTP to MCP servers that tenants name: asynchronous, as the library for MCP wants it.

As the providers' `guarded_client` it looks at the very address that it dials, takes no proxy from
the environment, and ends an answer rather than fill the memory.
"""

import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import anyio
import httpcore2
import httpx2
from django.conf import settings

from agents_app.providers.transport import errors_of_httpx, tls_context
from tenants.addresses import may_be_reached

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
_CONNECT_SECONDS: Final = 10.0
_TOO_LARGE: Final = f"its answer is larger than {MAX_ANSWER_BYTES // 1024**2} MB"
_REFUSED: Final = {
    401: "it refuses the token (401); look at the credential",
    403: "the token may not do this (403)",
    429: "it is asked too often (429)",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A client for one session, and what it ran into in words; empty while all is well."""

    client: httpx2.AsyncClient
    _transport: "_Transport"

    @property
    def trouble(self) -> str:
        return self._transport.trouble

    @property
    def is_refused(self) -> bool:
        """Whether the server has turned the request away, so that it has done nothing."""
        return self._transport.trouble in _REFUSED.values()


@asynccontextmanager
async def listening(*, headers: Mapping[str, str], seconds: float) -> AsyncIterator[Line]:
    transport = _Transport()
    client = httpx2.AsyncClient(
        transport=transport,
        timeout=httpx2.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
        trust_env=False,
        follow_redirects=False,
        headers={"Accept-Encoding": "identity", **headers},
    )
    async with client:
        yield Line(client, transport)


class _Transport(httpx2.AsyncBaseTransport):
    def __init__(self) -> None:
        self.trouble = ""
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls_context(), network_backend=_Backend()
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        with errors_of_httpx():
            response = await self._pool.handle_async_request(
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
            stream=_Body(response.stream, self),
            extensions=response.extensions,
        )
        if answer.status_code in _REFUSED:
            self.trouble = _REFUSED[answer.status_code]
        # We asked for none, and a few compressed bytes can unpack to more than the memory.
        if answer.headers.get("content-encoding", "identity") != "identity":
            await answer.aclose()
            self.trouble = "its answer is compressed, which it was asked not to do"
            raise httpx2.RemoteProtocolError(self.trouble)
        return answer

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: Any, transport: _Transport) -> None:
        self._stream = stream
        self._transport = transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        with errors_of_httpx():
            async for part in self._stream:
                received += len(part)
                if received > MAX_ANSWER_BYTES:
                    self._transport.trouble = _TOO_LARGE
                    raise httpx2.RemoteProtocolError(_TOO_LARGE)
                yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Backend(httpcore2.AsyncNetworkBackend):
    def __init__(self) -> None:
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        failure: Exception = httpcore2.ConnectError(f"no address for {host}")
        for address in await _addresses(host, port):
            if not may_be_reached(address, allowed=settings.MUSTER_PRIVATE_NETWORKS):
                failure = httpcore2.ConnectError(f"{host} leads into a private network")
                continue
            try:
                return await self._backend.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


async def _addresses(host: str, port: int) -> list[str]:
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore2.ConnectError(f"cannot resolve {host}: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
