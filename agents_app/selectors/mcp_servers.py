"""The tenant's MCP servers, how to reach them, and their tools as agents get them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.db.models import QuerySet
from pydantic import JsonValue

from agents_app.core.errors import McpServerError, ToolFailedError
from agents_app.core.mcp import ListedTool, checked_arguments
from agents_app.core.tool_sources import ToolOwner
from agents_app.core.tools import Tool, ToolContext
from agents_app.core.values import as_text
from agents_app.mcp.session import Command, Target, called
from agents_app.models import McpServer
from tenants.models import Tenant
from tenants.scope import current_tenant_id

DISABLED = "disabled"
UNASKED = "unasked"  # it has not been asked yet
FAILING = "failing"  # it could not be asked the last time; what it said before still counts
WORKING = "working"
STATES = (DISABLED, UNASKED, FAILING, WORKING)

# Its own deadline ends a call before the agent gives it up, and can say more of it.
_GRACE_SECONDS: Final = 5.0
_MOST_SAID: Final = 1_000
_WITHHELD = "belongs to the MCP server {}, which is disabled"
_IN_DOUBT = "Nobody knows whether it has done its work; find out before you call it again"
ANY_TENANT = "*"


def mcp_servers() -> QuerySet[McpServer]:
    return McpServer.objects.all()


def state_of(server: McpServer) -> str:
    if not server.enabled:
        return DISABLED
    if server.error:
        return FAILING
    return WORKING if server.listed_at else UNASKED


def listed_tools(server: McpServer) -> list[ListedTool]:
    """All that it offers, whether it is allowed or not."""
    return [ListedTool.of_row(row) for row in server.tools]


def is_allowed(server: McpServer, tool: ListedTool) -> bool:
    return not server.allowed_tools or tool.remote in server.allowed_tools


def commands_of_tenant() -> dict[str, Command]:
    """The operator's commands that the open tenant may use, by name."""
    given = settings.MUSTER_MCP_COMMANDS
    if not given:
        return {}
    slug = Tenant.objects.get(id=current_tenant_id()).slug
    return {
        name: Command(command=entry["command"], arguments=entry["args"], environment=entry["env"])
        for name, entry in given.items()
        if {slug, ANY_TENANT} & set(entry["tenants"])
    }


def target_of(
    server: McpServer,
    commands: Mapping[str, Command],
    *,
    token: str = "",
    protocol: str = "",
) -> Target:
    """How to reach it, with the commands of its tenant. Raises McpServerError."""
    spoken = protocol or server.protocol
    if server.url:
        return Target(url=server.url, token=token, protocol=spoken)
    command = commands.get(server.command)
    if command is None:
        raise McpServerError(f"the operator offers no command {server.command!r}")
    return Target(command=command, protocol=spoken)


class McpTools:
    """The tools of the tenant's MCP servers."""

    name = "mcp"
    description = "The tools of the tenant's MCP servers."

    def tools(self, owner: ToolOwner) -> Iterator[Tool]:
        servers = list(mcp_servers())
        commands = commands_of_tenant() if any(server.command for server in servers) else {}
        for server in servers:
            try:
                reach = target_of(server, commands)
            except McpServerError:
                continue
            place = _Place(server.name, reach, float(server.timeout_seconds))
            token = partial(owner.secret, server.credential) if server.credential else str
            withheld = "" if server.enabled else _WITHHELD.format(server.name)
            for listed in filter(partial(is_allowed, server), listed_tools(server)):
                yield _tool(listed, place, token, withheld=withheld)


@dataclass(frozen=True, slots=True)
class _Place:
    server: str
    target: Target
    timeout_seconds: float


def _tool(listed: ListedTool, place: _Place, token: Callable[[], str], *, withheld: str) -> Tool:
    return Tool(
        name=listed.name,
        description=listed.description,
        parameters=listed.parameters,
        timeout_seconds=place.timeout_seconds + _GRACE_SECONDS,
        is_repeatable=listed.is_repeatable,
        withheld=withheld,
        check=partial(checked_arguments, schema=listed.parameters),
        function=partial(_call, listed, place, token),
    )


def _call(
    listed: ListedTool,
    place: _Place,
    token: Callable[[], str],
    arguments: Mapping[str, Any],
    _: ToolContext | None,
) -> JsonValue:
    target = replace(place.target, token=token())
    seconds = place.timeout_seconds
    try:
        answer = called(target, listed.remote, arguments, within_seconds=seconds)
    except McpServerError as error:
        raise ToolFailedError(listed.name, _told(place.server, listed, error)) from error
    if answer.is_error:
        raise ToolFailedError(listed.name, as_text(answer.output)[:_MOST_SAID])
    return answer.output


def _told(server: str, listed: ListedTool, error: McpServerError) -> str:
    told = f"the MCP server {server}: {error.detail}"
    is_unclear = error.in_doubt and not listed.is_repeatable
    return f"{told}. {_IN_DOUBT}" if is_unclear else told
