"""Shared by the tests of tools that reach out."""

from collections.abc import Iterable
from typing import Any

from agents_app.selectors import toolboxes
from tenants.services.credentials import create_credential
from tests.model_servers import RawServer, Talk, http
from tests.rest import call, made
from tests.world import World


def sent(body: bytes, *, status: str = "200 OK", headers: Iterable[str] = ()) -> bytes:
    """An answer with these headers, and no type of its own."""
    return http(body, status=status, headers=headers).replace(
        b"Content-Type: application/json\r\n", b"", 1
    )


def answering(raw: bytes) -> Talk:
    def answer(server: RawServer, connection: Any, request: bytes) -> None:
        connection.sendall(raw)

    return answer


def port_of(server: RawServer) -> int:
    return int(server.url.rpartition(":")[2])


def allow(world: World, tool: str, **settings: Any) -> None:
    """As an admin does, some seconds ago."""
    change = {"allowed": True, "settings": settings}
    made(call(world.client(), "PATCH", f"tools/{tool}", change))
    toolboxes._toolboxes.forget()


def keep_secret(world: World, name: str, secret: str) -> None:
    with world.scope():
        create_credential(name=name, provider="tool", secret=secret)


def use(world: World, tool: str, **arguments: Any) -> Any:
    return toolboxes.toolbox_of(world.tenant.id)[tool].call(arguments)
