"""Keeping the tenant's MCP servers, and asking them what they offer.

Asking is done in three parts, since nothing may be held meanwhile: `begin` and `finish` each in a
scope of their own, `ask` between them in none.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, connections
from django.db.models import F, Q

from agents_app.core.errors import McpServerError, ToolSecretError
from agents_app.core.mcp import Listing, changes_between, listing_of
from agents_app.mcp.session import AUTO, Target, introduction
from agents_app.models import McpServer
from agents_app.selectors.mcp_servers import commands_of_tenant, listed_tools, target_of
from agents_app.selectors.tool_secrets import tool_secret
from tenants.addresses import address_fault
from tenants.kernel.clock import now
from tenants.models import Tenant, TenantStatus
from tenants.scope import current_tenant_id, tenant_scope
from tenants.services.errors import (
    AddressRefusedError,
    AlreadyExistsError,
    CheckTooSoonError,
    NotFoundError,
)

log = structlog.get_logger(__name__)

# How often a control worker looks for servers that are to be asked.
SECONDS: Final = 5.0
DEADLINE_SECONDS: Final = 20.0
_PAUSE: Final = timedelta(seconds=10)
_AT_ONCE: Final = 20
_THREADS: Final = 4
_LONGEST_ERROR: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A server that is to be asked; `fault` is why it cannot be."""

    server: McpServer
    target: Target | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What it offers, or why that is not known."""

    listing: Listing | None = None
    protocol: str = AUTO
    error: str = ""


def create_server(**fields: Any) -> McpServer:
    server = McpServer(**fields)
    if McpServer.objects.filter(name=server.name).exists():
        raise AlreadyExistsError("MCP server", server.name, "/name")
    check_place(server)
    server.save(force_insert=True)
    return server


def change_server(server: McpServer, **changes: Any) -> McpServer:
    """Change what is not its name or place: published workflows name its tools after these."""
    if changes.get("credential", server.credential) != server.credential:
        # With another token it may have other tools, and is asked again soon.
        changes["asked_at"] = None
    for field, value in changes.items():
        setattr(server, field, value)
    server.save(update_fields=[*changes, "updated_at"])
    return server


def delete_server(server: McpServer) -> None:
    server.delete()


def check_place(server: McpServer) -> None:
    """Raises for a place that the open tenant may not name."""
    if bool(server.url) == bool(server.command):
        raise AddressRefusedError("or a command is needed, and not both", "/url")
    if server.command:
        if server.command not in commands_of_tenant():
            raise NotFoundError("command", server.command, "/command")
        return
    fault = address_fault(server.url, allowed=settings.MUSTER_PRIVATE_NETWORKS)
    if fault:
        raise AddressRefusedError(fault, "/url")


def begin(server: McpServer) -> Asking:
    """Take the turn to ask it: raises CheckTooSoonError within some seconds after the last.

    Commit before it is asked: whoever dies in between has used the turn up.
    """
    moment = now()
    is_due = Q(asked_at=None) | Q(asked_at__lt=moment - _PAUSE)
    if not McpServer.objects.filter(is_due, id=server.id).update(asked_at=moment):
        raise CheckTooSoonError(round(_PAUSE.total_seconds()))
    server.asked_at = moment
    try:
        token = tool_secret(current_tenant_id(), server.credential) if server.credential else ""
        return Asking(
            server=server,
            target=target_of(server, commands_of_tenant(), token=token, protocol=AUTO),
        )
    except (McpServerError, ToolSecretError) as error:
        return Asking(server=server, fault=str(error))


def ask(asking: Asking, *, deadline_seconds: float = DEADLINE_SECONDS) -> Asked:
    if asking.target is None:
        return Asked(error=asking.fault)
    try:
        met = introduction(asking.target, within_seconds=deadline_seconds)
    except McpServerError as error:
        return Asked(error=error.detail[:_LONGEST_ERROR])
    listing = listing_of(asking.server.name, met.offers)
    return Asked(listing=listing, protocol=met.protocol)


def finish(asking: Asking, asked: Asked) -> McpServer:
    """Keep what it said, unless somebody has asked it since or it is gone."""
    row = McpServer.objects.filter(id=asking.server.id, asked_at=asking.server.asked_at)
    row.update(**_columns(asking.server, asked))
    return McpServer.objects.filter(id=asking.server.id).first() or asking.server


def asked(tenant_id: UUID, begin_it: Callable[[], Asking]) -> McpServer:
    """All three, for who holds no scope."""
    with tenant_scope(tenant_id):
        asking = begin_it()
    give_back_connection()
    found = ask(asking)
    with tenant_scope(tenant_id):
        return finish(asking, found)


def give_back_connection() -> None:
    """To the pool, while a server takes its time."""
    if not connection.in_atomic_block:
        connection.close()


def ask_stale() -> int:
    """Ask those of all tenants that are new or were not asked for long. Gives how many."""
    oldest = now() - timedelta(seconds=settings.MUSTER_MCP_REFRESH_SECONDS)
    active = Tenant.objects.using("system").filter(status=TenantStatus.ACTIVE).values("id")
    rows = McpServer.objects.db_manager("system").filter(
        Q(asked_at=None) | Q(asked_at__lt=oldest), enabled=True, tenant_id__in=active
    )
    in_turn = rows.order_by(F("asked_at").asc(nulls_first=True), "id")
    due = list(in_turn.values_list("tenant_id", "id")[:_AT_ONCE])
    connections["system"].close()
    if due:
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(lambda which: _ask_again(*which), due))
    return len(due)


def _ask_again(tenant_id: UUID, server_id: UUID) -> None:
    try:
        server = asked(tenant_id, lambda: begin(McpServer.objects.get(id=server_id)))
    except (CheckTooSoonError, McpServer.DoesNotExist):
        return  # another process was faster, or it was deleted
    finally:
        give_back_connection()
    if server.error:
        log.warning("mcp_server_failed", server_id=str(server_id), tenant_id=str(tenant_id))


def _columns(server: McpServer, asked: Asked) -> dict[str, Any]:
    if asked.listing is None:
        return {"error": asked.error or "it could not be asked"}
    columns: dict[str, Any] = {
        "error": "",
        "listed_at": now(),
        "protocol": asked.protocol,
        "tools": [tool.as_row() for tool in asked.listing.tools],
        "left_out": list(asked.listing.left_out),
    }
    changes = changes_between(listed_tools(server), asked.listing.tools)
    if changes and server.listed_at:
        columns |= {"changes": changes, "changed_at": now()}
    return columns
