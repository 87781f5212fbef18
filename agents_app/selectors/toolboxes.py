"""Which tools a tenant has: the platform's, the operator's, and those made for it."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from uuid import UUID

import structlog
from cachetools import LRUCache, TTLCache
from django.db import DatabaseError, connection
from psycopg_pool import PoolTimeout
from pydantic import ValidationError

from agents_app.core.approving import CallApproval
from agents_app.core.tool_sources import Source, ToolOwner
from agents_app.core.tools import Tool, Toolbox
from agents_app.models import ToolGrant
from agents_app.plugins.registry import plugins
from agents_app.selectors.tool_secrets import tool_secret
from agents_app.tools.installed import installed_sources
from tenants.loading import SingleFlight
from tenants.scope import has_tenant_scope, tenant_scope

log = structlog.get_logger(__name__)

FRESH_SECONDS = 5.0
NOT_GRANTED = "is not allowed for this tenant yet; an admin can allow it under Tools"
REFUSED = "was refused to this tenant; an admin can allow it under Tools"
MISFIT = "is not set up as it has to be; an admin can do so under Tools"

_fresh: TTLCache[UUID, Toolbox] = TTLCache(maxsize=10_000, ttl=FRESH_SECONDS)
# What was known last, for while the database is away.
_known: LRUCache[UUID, Toolbox] = LRUCache(maxsize=10_000)
_guard = threading.Lock()


def toolbox_of(tenant_id: UUID) -> Toolbox:
    """All tools there are for the tenant; those that it may not use are withheld.

    Inside the tenant's scope as things are now; outside at most `FRESH_SECONDS` old, since
    workers ask for every step that uses tools.
    """
    if has_tenant_scope():
        with tenant_scope(tenant_id):
            return _toolbox(tenant_id)
    with _guard:
        fresh = _fresh.get(tenant_id)
    return _load(tenant_id) if fresh is None else fresh


def _read(tenant_id: UUID) -> Toolbox:
    try:
        with tenant_scope(tenant_id):
            found = _toolbox(tenant_id)
    except (DatabaseError, PoolTimeout):
        with _guard:
            known = _known.get(tenant_id)
        if known is None:
            raise
        return known
    finally:
        if not connection.in_atomic_block:
            # Back to the pool at once: what follows may take minutes.
            connection.close()
    with _guard:
        _fresh[tenant_id] = _known[tenant_id] = found
    return found


_load: SingleFlight[UUID, Toolbox] = SingleFlight(_read)


def _toolbox(tenant_id: UUID) -> Toolbox:
    grants = {grant.tool: grant for grant in ToolGrant.objects.all()}
    owner = ToolOwner(
        tenant_id=tenant_id,
        settings={name: grant.settings for name, grant in grants.items()},
        secret=partial(tool_secret, tenant_id),
    )
    return Toolbox(_as_granted(tool, grants) for tool in _made_for(owner))


def _as_granted(tool: Tool, grants: Mapping[str, ToolGrant]) -> Tool:
    grant = grants.get(tool.name)
    if grant is not None and grant.approval is not None:
        tool = replace(tool, approval=_approval_of(grant))
    if grant is None:
        return replace(tool, withheld=NOT_GRANTED) if tool.needs_grant else tool
    if not grant.is_allowed:
        return replace(tool, withheld=NOT_GRANTED if tool.needs_grant else REFUSED)
    return tool if _is_set_up(tool, grant) else replace(tool, withheld=MISFIT)


def _approval_of(grant: ToolGrant) -> CallApproval | None:
    try:
        approval = CallApproval.model_validate(grant.approval)
    except ValidationError:
        # Those of another release: whoever asked for a person's agreement still gets it.
        return CallApproval()
    return approval if approval.required else None


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
    taken = set[str]()
    for source, is_plugin in _sources():
        for tool in _tools_of(source, owner):
            if tool.name in taken:
                log.warning("tool_name_taken", tool=tool.name, source=source.name)
                continue
            taken.add(tool.name)
            yield replace(tool, needs_grant=True) if is_plugin else tool


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
