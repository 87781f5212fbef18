"""The plugins of this process: read once, or, while one develops, whenever a file changes."""

import threading
from pathlib import Path
from time import monotonic
from typing import Final

import structlog
from django.conf import settings

from agents_app.core.delegating_tools import DELEGATING
from agents_app.core.plugins import BrokenPlugin, Found, Kind, Plugins, sorted_out
from agents_app.core.types import AGENT_TYPES
from agents_app.plugins.loading import found_in_file, found_in_packages
from agents_app.providers.base import ProviderKind
from agents_app.tools.installed import installed_sources
from tenants.selectors.credentials import FOR_TOOLS

log = structlog.get_logger(__name__)

_GLANCE_SECONDS: Final = 1.0
_Stamp = tuple[int, int]


class _Registry:
    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._files: dict[Path, tuple[_Stamp, list[Found]]] = {}
        self._packages: list[Found] | None = None
        self._plugins: Plugins | None = None
        self._folder = ""
        self._looked_at = 0.0

    def plugins(self) -> Plugins:
        known = self._plugins
        if known is not None and not self._is_stale():
            return known
        with self._guard:
            if self._plugins is None or self._is_stale():
                self._plugins = self._read()
            return self._plugins

    def _is_stale(self) -> bool:
        if self._folder != settings.MUSTER_PLUGINS_DIR:
            return True
        return settings.MUSTER_PLUGINS_RELOAD and monotonic() - self._looked_at > _GLANCE_SECONDS

    def _read(self) -> Plugins:
        self._looked_at = monotonic()
        before, found = self._plugins, self._in_folder()
        if before is not None and found is None:
            return before
        if self._packages is None:
            self._packages = list(found_in_packages())
        files = [each for _, members in self._files.values() for each in members]
        plugins = sorted_out([*(found or []), *files, *self._packages], taken=_built_in())
        _tell(plugins, known=before.broken if before else ())
        return plugins

    def _in_folder(self) -> list[Found] | None:
        """Read what has changed. What is wrong with the folder itself; None: nothing is new."""
        self._folder = settings.MUSTER_PLUGINS_DIR
        try:
            stamps = _stamps(self._folder)
        except OSError as error:
            self._files = {}
            reason = f"the folder cannot be read: {error.strerror or error}"
            return [BrokenPlugin(name="", source=self._folder, reasons=(reason,))]
        if stamps == {path: stamp for path, (stamp, _) in self._files.items()}:
            return None
        self._files = {
            path: known
            if (known := self._files.get(path)) and known[0] == stamp
            else (stamp, found_in_file(path))
            for path, stamp in stamps.items()
        }
        return []


def _stamps(folder: str) -> dict[Path, _Stamp]:
    """The files of the folder, each with what tells that it has changed."""
    if not folder:
        return {}
    stamps = {}
    for path in sorted(Path(folder).iterdir()):
        if path.suffix == ".py" and not path.name.startswith(("_", ".")):
            stat = path.stat()
            stamps[path] = (stat.st_mtime_ns, stat.st_size)
    return stamps


def _built_in() -> dict[Kind, set[str]]:
    of_tools = {*(each.name for each in installed_sources()), *DELEGATING}
    return {
        "agent": {*(kind.name for kind in AGENT_TYPES), "custom"},
        "tool": of_tools,
        "provider": {*ProviderKind, FOR_TOOLS},
    }


def _tell(plugins: Plugins, *, known: object) -> None:
    if plugins.broken == known:
        return
    for each in plugins.broken:
        log.warning("plugin_broken", plugin=each.name, source=each.source, reasons=each.reasons)


_registry = _Registry()


def plugins() -> Plugins:
    """What this installation has beyond what comes with it."""
    return _registry.plugins()


def forget_plugins() -> None:
    """Have everything read anew at the next look, as a new process would."""
    global _registry
    _registry = _Registry()
