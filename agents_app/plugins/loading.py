"""Brings plugins in, and tells of each that is broken what is wrong with it.

A plugin is foreign code: whatever it does while it is loaded costs itself alone.
"""

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from agents_app.core.custom import CustomAgent, description_of, faults_of, name_of
from agents_app.core.plugins import (
    PLUGIN_PACKAGE,
    PROVIDER_NAME,
    BrokenPlugin,
    Found,
    FoundAgent,
    FoundProvider,
    FoundTool,
    Kind,
)
from agents_app.core.tool_sources import ToolFactory
from agents_app.core.tools import Tool
from agents_app.providers.plugin import PluginProvider

AGENTS: Final = "muster.agents"
TOOLS: Final = "muster.tools"
PROVIDERS: Final = "muster.providers"
_SHOWN: Final = 300


def found_in_file(path: Path) -> list[Found]:
    """All agents and tools of a file, usable or not."""
    try:
        module = _run(path)
    except (Exception, SystemExit) as error:
        reason = f"it does not import: {_told(error)}"
        return [BrokenPlugin(name=path.stem, source=path.name, reasons=(reason,))]
    found = list(_members(module, source=path.name))
    reason = "there is neither an agent nor a tool in it"
    return found or [BrokenPlugin(name=path.stem, source=path.name, reasons=(reason,))]


def found_in_packages() -> Iterator[Found]:
    """What installed packages name as entry points."""
    for group, (kind, found_at) in _GROUPS.items():
        for point in entry_points(group=group):
            try:
                yield found_at(point)
            except (Exception, SystemExit) as error:
                reason = f"it does not load: {_told(error)}"
                yield BrokenPlugin(
                    name=point.name, source=_source(point), reasons=(reason,), kind=kind
                )


def _run(path: Path) -> ModuleType:
    """The file as a module of its own; nothing is written beside it, and it is read anew."""
    module = ModuleType(f"{PLUGIN_PACKAGE}.{path.stem}")
    module.__file__ = str(path)
    # Some decorators look their class's module up there.
    sys.modules[module.__name__] = module
    exec(compile(path.read_bytes(), path, "exec"), module.__dict__)  # noqa: S102
    return module


def _members(module: ModuleType, *, source: str) -> Iterator[Found]:
    for name, member in list(vars(module).items()):
        # What it has imported is not its own to bring.
        if name.startswith("_") or _home_of(member) != module.__name__:
            continue
        if isinstance(member, type) and issubclass(member, CustomAgent):
            yield _agent(member, source=source)
        elif _is_tool(member):
            yield FoundTool(name=member.name, source=source, tool=member)


def _home_of(member: Any) -> str:
    if isinstance(member, Tool):
        return member.origin.partition(":")[0]
    return getattr(member, "__module__", "")


def _is_tool(member: Any) -> bool:
    return isinstance(member, Tool | ToolFactory) and not isinstance(member, type)


def _agent(kind: type[CustomAgent], *, source: str) -> Found:
    name = name_of(kind) if isinstance(kind.name, str) else kind.__name__.lower()
    faults = faults_of(kind)
    if faults:
        return BrokenPlugin(name=name, source=source, reasons=tuple(faults), kind="agent")
    try:
        agent = kind()
    except (Exception, SystemExit) as error:
        reason = f"it cannot be made: {_told(error)}"
        return BrokenPlugin(name=name, source=source, reasons=(reason,), kind="agent")
    return FoundAgent(
        name=name,
        description=description_of(kind),
        capabilities=tuple(sorted({*kind.capabilities})),
        source=source,
        agent=agent,
    )


def _agent_of(point: EntryPoint) -> Found:
    loaded = point.load()
    if not isinstance(loaded, type) or not issubclass(loaded, CustomAgent):
        raise TypeError("it is not a class that derives from CustomAgent")
    return _agent(loaded, source=_source(point))


def _tool_of(point: EntryPoint) -> Found:
    loaded = point.load()
    if not _is_tool(loaded):
        raise TypeError("it is neither a tool nor a factory of tools")
    return FoundTool(name=loaded.name, source=_source(point), tool=loaded)


def _provider_of(point: EntryPoint) -> Found:
    loaded, source = point.load(), _source(point)
    if not isinstance(loaded, type) or not issubclass(loaded, PluginProvider):
        raise TypeError("it is not a class that derives from PluginProvider")
    faults = list(_faults_of_provider(point.name, loaded))
    if faults:
        return BrokenPlugin(name=point.name, source=source, reasons=tuple(faults), kind="provider")
    return FoundProvider(name=point.name, source=source, provider=loaded())


def _faults_of_provider(name: str, kind: type[PluginProvider]) -> Iterator[str]:
    if not PROVIDER_NAME.fullmatch(name):
        yield "its name has to be lower-case letters, digits and underscores, at most 32"
    if not (kind.__dict__.get("__doc__") or "").strip():
        yield "it has no docstring; say in one sentence whose models these are"
    if kind.client is PluginProvider.client:
        yield "it has no method `client`"
    address: Any = kind.address
    if not isinstance(address, str):
        yield "its `address` has to be a text"
    needs_key: Any = kind.needs_key
    if not isinstance(needs_key, bool):
        yield "its `needs_key` has to be True or False"


_GROUPS: Final[dict[str, tuple[Kind, Callable[[EntryPoint], Found]]]] = {
    AGENTS: ("agent", _agent_of),
    TOOLS: ("tool", _tool_of),
    PROVIDERS: ("provider", _provider_of),
}


def _source(point: EntryPoint) -> str:
    return f"{point.dist.name if point.dist else 'a package'} ({point.value})"


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_SHOWN]
