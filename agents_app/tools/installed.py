"""The sources of tools that come with the platform and its apps."""

import threading
from collections.abc import Iterable

from agents_app.core.tool_sources import Source, ToolSources
from agents_app.tools.builtin import BUILTIN_FACTORIES, BUILTIN_TOOLS

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
