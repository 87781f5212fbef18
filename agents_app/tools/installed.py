"""The sources of tools that this installation has."""

import threading
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points

import structlog

from agents_app.core.tool_sources import Source, ToolFactory, ToolSources
from agents_app.core.tools import Tool
from agents_app.tools.builtin import BUILTIN_FACTORIES, BUILTIN_TOOLS

log = structlog.get_logger(__name__)

# Packages of the operator name their tools and factories in this group of entry points.
PLUGINS = "muster.tools"
_more = ToolSources()
_guard = threading.Lock()


def add_source(source: Source) -> None:
    """For apps above this one, in their `ready()`: tools that need what lies there."""
    with _guard:
        _more.add(source)


def installed_sources() -> Iterable[Source]:
    yield from BUILTIN_TOOLS
    yield from BUILTIN_FACTORIES
    yield from _more
    yield from _plugins()


@cache
def _plugins() -> tuple[Source, ...]:
    found: list[Source] = []
    for point in entry_points(group=PLUGINS):
        try:
            source = point.load()
            if not isinstance(source, Tool | ToolFactory):
                raise TypeError("it is neither a tool nor a factory of tools")
        except Exception as error:  # a plugin is foreign code
            log.warning("tool_plugin_unusable", plugin=point.name, error=str(error))
            continue
        found.append(source)
    return tuple(found)
