"""Which tools a tenant has: the platform's, the operator's, and those made for it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Final
from uuid import UUID

import structlog
from django.db import DatabaseError
from pydantic import ValidationError

from agents_app.core.delegating_tools import DELEGATING
from agents_app.core.tool_sources import Source, ToolOwner
from agents_app.core.tools import Tool, Toolbox
from agents_app.models import ToolGrant
from agents_app.plugins.registry import plugins
from agents_app.selectors.tool_secrets import tool_secret
from agents_app.tools.installed import installed_sources
from tenants.fresh import Fresh
from tenants.scope import current_tenant_id, has_tenant_scope, tenant_scope

log = structlog.get_logger(__name__)

# More than anybody reads.
_CLASHES: Final = 1_000

NOT_GRANTED = "is not allowed for this tenant yet; an admin can allow it under Tools"
REFUSED = "was refused to this tenant; an admin can allow it under Tools"
MISFIT = "is not set up as it has to be; an admin can do so under Tools"


def toolbox_of(tenant_id: UUID) -> Toolbox:
    """All tools there are for the tenant; those that it may not use are withheld.

    Inside the tenant's scope as things are now; outside at most some seconds old, since workers
    ask for every step that uses tools.
    """
    if has_tenant_scope():
        with tenant_scope(tenant_id):
            return _toolbox()
    return _toolboxes.of(tenant_id)


def _toolbox() -> Toolbox:
    tenant_id = current_tenant_id()
    grants = {grant.tool: grant for grant in ToolGrant.objects.all()}
    owner = ToolOwner(
        tenant_id=tenant_id,
        settings={name: grant.settings for name, grant in grants.items()},
        secret=partial(tool_secret, tenant_id),
    )
    return Toolbox(_as_granted(tool, grants) for tool in _made_for(owner))


_toolboxes: Fresh[Toolbox] = Fresh(_toolbox)


def _as_granted(tool: Tool, grants: Mapping[str, ToolGrant]) -> Tool:
    grant = grants.get(tool.name)
    if grant is None:
        return replace(tool, withheld=NOT_GRANTED) if tool.needs_grant else tool
    if not grant.is_allowed:
        return replace(tool, withheld=NOT_GRANTED if tool.needs_grant else REFUSED)
    return tool if _is_set_up(tool, grant) else replace(tool, withheld=MISFIT)


def _is_set_up(tool: Tool, grant: ToolGrant) -> bool:
    """Its settings may be those of another release, or nobody has given it what it cannot lack."""
    if tool.settings is None:
        return True
    try:
        tool.settings.model_validate(grant.settings)
    except ValidationError:
        return False
    return True


def _made_for(owner: ToolOwner) -> Iterator[Tool]:
    """Every tool once. Of two with one name the first counts: nobody takes a built-in's place."""
    taken = set(DELEGATING)
    for source, is_plugin in _sources():
        for tool in _tools_of(source, owner):
            if tool.name in taken:
                _tell_taken(tool.name, source.name)
                continue
            taken.add(tool.name)
            yield replace(tool, needs_grant=True) if is_plugin else tool


@lru_cache(maxsize=_CLASHES)
def _tell_taken(tool: str, source: str) -> None:
    """Once, not at every look."""
    log.warning("tool_name_taken", tool=tool, source=source)


def _sources() -> Iterator[tuple[Source, bool]]:
    """Where tools come from; what others bring needs a grant, whatever it says of itself."""
    yield from ((source, False) for source in installed_sources())
    yield from ((found.tool, True) for found in plugins().tools)


def _tools_of(source: Source, owner: ToolOwner) -> list[Tool]:
    if isinstance(source, Tool):
        return [source]
    try:
        return list(source.tools(owner))
    except DatabaseError:
        raise  # nothing else can be read in this transaction either
    except Exception as error:  # a factory may be foreign code
        log.warning("tool_factory_failed", source=source.name, error=type(error).__name__)
        return []
