"""The storm's own PostgreSQL and Valkey, and what is done to them. No others are ever touched."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis

from orchestrator.embedded import processes
from orchestrator.embedded.commands import REPOSITORY
from orchestrator.embedded.ports import Claims, free_port
from orchestrator.embedded.postgres import Passwords, Postgres, best_identity
from orchestrator.embedded.processes import Service
from orchestrator.embedded.valkey import Valkey


class ForeignServerError(Exception):
    """What answers at the address is not what was started there."""


@dataclass(slots=True)
class Server:
    """One program that is restarted while others use it."""

    service: Service
    home: Path
    guard: threading.Lock = field(default_factory=threading.Lock)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = processes.start(self.service, home=self.home)

    def die(self) -> None:
        """At once, without a goodbye."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None:
            processes.stop(self.service, self.process)


class Servers:
    def __init__(self, home: Path, claims: Claims) -> None:
        passwords = Passwords(**{role: secrets.token_urlsafe(24) for role in Passwords.__slots__})
        self._postgres = Postgres(
            home=home,
            port=free_port(may_have=claims.take),
            passwords=passwords,
            identity=best_identity(),
        )
        self._valkey = Valkey(
            home=home, port=free_port(may_have=claims.take), password=passwords.app
        )
        self.provider_port = free_port(may_have=claims.take)
        self._home = home
        self._stale = home / "valkey-stale"
        self.database = Server(self._postgres.service(), home)
        self.broker = Server(self._valkey.service(), home)
        # When PostgreSQL was away: from, to.
        self.outages: list[tuple[float, float]] = []

    @property
    def environment(self) -> dict[str, str]:
        """What every process of the storm is told. Addresses of other servers are taken away."""
        ours = {
            "DJANGO_SETTINGS_MODULE": "orchestrator.settings.test",
            "DATABASE_URL": self._postgres.url("muster_app"),
            "SYSTEM_DATABASE_URL": self._postgres.url("muster_system"),
            "MIGRATION_DATABASE_URL": self._postgres.url("muster_owner"),
            "REDIS_URL": self._valkey.url,
            "COMPATIBLE_BASE_URL": f"http://127.0.0.1:{self.provider_port}/v1",
            "MUSTER_LEASE_SECONDS": "5",
            "MUSTER_SWEEP_SECONDS": "0.5",
            # Too short for some steps, which are handed over.
            "CELERY_SOFT_SHUTDOWN_SECONDS": "1",
            "LOG_LEVEL": "INFO",
        }
        return {**_own_environment(), **ours, **processes.mark(self._home)}

    @property
    def superuser_url(self) -> str:
        return self._postgres.url("postgres")

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self._valkey.url, socket_timeout=5)

    def refuse_foreign(self) -> None:
        """Raises ForeignServerError unless both servers live in the storm's own directory."""
        with psycopg.connect(self.superuser_url) as connection:
            (place,) = connection.execute("SHOW data_directory").fetchone() or ("",)
        with self.redis() as client:
            directory = client.config_get("dir")["dir"]
        for at, mine in ((place, self._postgres.data), (directory, self._valkey.base)):
            if Path(at).resolve() != mine.resolve():
                raise ForeignServerError(f"a server in {at} was not started by this storm")

    def migrate(self) -> None:
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "-v0"],
            cwd=REPOSITORY,
            env=self.environment,
            check=True,
        )

    # Faults

    def restart_postgres(self) -> None:
        """As `pg_ctl stop -m immediate` does it: no checkpoint, recovery at the next start."""
        with self.database.guard:
            began = time.time()
            if self.database.process:
                self.database.process.send_signal(signal.SIGQUIT)
                self.database.process.wait()
            self.database.start()
            self.outages.append((began, time.time()))

    def wipe(self) -> None:
        with self.broker.guard, self.redis() as client:
            client.flushall()

    def keep_copy(self) -> None:
        """What a restart with stale data will come back with."""
        unfinished = self._stale.with_suffix(".unfinished")
        with self.broker.guard:
            shutil.rmtree(unfinished, ignore_errors=True)
            try:
                shutil.copytree(self._valkey.base, unfinished)
            except OSError:
                # A file that was just replaced: the copy before will do.
                return
            shutil.rmtree(self._stale, ignore_errors=True)
            unfinished.rename(self._stale)

    def restart_stale(self) -> None:
        with self.broker.guard:
            self.broker.die()
            if self._stale.exists():
                shutil.rmtree(self._valkey.base)
                shutil.copytree(self._stale, self._valkey.base)
            self.broker.start()


def _own_environment() -> dict[str, str]:
    foreign = ("MUSTER_", "CELERY_", "LLM_", "DATABASE_")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.endswith(("_URL", "_KEY", "_KEYS", "_FILE")) and not name.startswith(foreign)
    }


@contextmanager
def running_servers(home: Path) -> Iterator[Servers]:
    claims = Claims()
    servers = Servers(home, claims)
    with ExitStack() as stack:
        stack.callback(claims.release)
        for server in (servers.database, servers.broker):
            server.start()
            stack.callback(server.stop)
        servers.migrate()
        servers.refuse_foreign()
        yield servers
