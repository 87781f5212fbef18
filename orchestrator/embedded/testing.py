"""Throw-away servers for tests: real PostgreSQL and Valkey that cannot outlive their user.

A host process owns the servers and waits at the end of a pipe. When the test process closes it, or
dies in any way, the host stops the servers and removes their directory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from orchestrator.embedded import processes
from orchestrator.embedded.errors import EmbeddedError, ServerDiedError
from orchestrator.embedded.ports import free_port
from orchestrator.embedded.postgres import Passwords, Postgres, best_identity
from orchestrator.embedded.valkey import Valkey

REPOSITORY = Path(__file__).resolve().parents[2]
ATTEMPTS = 3
Server = TypeVar("Server", Postgres, Valkey)
# Tests make databases of their own, and read the statements of every role.
TEST_GRANTS = """
ALTER ROLE muster_owner CREATEDB;
GRANT pg_read_all_stats TO muster_owner;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
GRANT EXECUTE ON FUNCTION pg_stat_statements_reset TO muster_owner;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddresses:
    """Where the servers are, once for each PostgreSQL role, and their process ids."""

    superuser_url: str
    owner_url: str
    app_url: str
    system_url: str
    redis_url: str
    postgres_pid: int
    valkey_pid: int

    @property
    def environment(self) -> dict[str, str]:
        """The variables under which the settings look for servers."""
        return {
            "DATABASE_URL": self.app_url,
            "MIGRATION_DATABASE_URL": self.owner_url,
            "SYSTEM_DATABASE_URL": self.system_url,
            "REDIS_URL": self.redis_url,
            "CELERY_BROKER_URL": "",
        }


@contextlib.contextmanager
def test_servers(
    base_dir: Path | None = None,  # noqa: PT028 - a helper of tests, not a test
    *,
    durable: bool = False,  # noqa: PT028
) -> Iterator[ServerAddresses]:
    """Serve PostgreSQL (database `muster`, the three roles) and Valkey for the time of the block.

    `muster_owner` may create databases, so a test runner can; they come with pg_stat_statements.
    Everything lies in a fresh directory below `base_dir` (default: the system's temporary one),
    which is gone afterwards, also when this process is killed. Without `durable` PostgreSQL skips
    its fsyncs: measure nothing then.
    """
    home = Path(tempfile.mkdtemp(prefix="muster-test-", dir=base_dir)).resolve()
    command = [sys.executable, "-m", "orchestrator.embedded.testing", str(home)]
    host = subprocess.Popen(
        [*command, "--durable"] if durable else command,
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the tests; the host follows when they are done with the servers.
        start_new_session=True,
    )
    with host:
        try:
            yield read_addresses(host)
        finally:
            host.communicate()


# pytest collects what is called test_*, wherever it is imported.
test_servers.__test__ = False  # type: ignore[attr-defined]


def read_addresses(host: subprocess.Popen[str]) -> ServerAddresses:
    line = host.stdout.readline() if host.stdout else ""
    if not line:
        raise EmbeddedError("The host of the test servers ended without a word.")
    answer = json.loads(line)
    if "error" in answer:
        raise EmbeddedError(answer["error"])
    return ServerAddresses(**answer)


def host_servers(home: Path, *, durable: bool) -> None:
    """Serve until standard input ends; the addresses, or the error, are one line of JSON."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with running_servers(home, durable=durable) as addresses:
            print(json.dumps(asdict(addresses)), flush=True)
            sys.stdin.read()
    except EmbeddedError as error:
        print(json.dumps({"error": str(error)}), flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def running_servers(home: Path, *, durable: bool) -> Iterator[ServerAddresses]:
    (home / "logs").mkdir()
    passwords = Passwords(**{role: secrets.token_urlsafe(24) for role in Passwords.__slots__})

    def postgres_on(port: int) -> Postgres:
        return Postgres(
            home=home,
            port=port,
            passwords=passwords,
            durable=durable,
            identity=best_identity(),
        )

    def valkey_on(port: int) -> Valkey:
        return Valkey(home=home, port=port, password=passwords.app, durable=durable)

    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as threads:
        starting = threads.submit(start_somewhere, postgres_on, home=home, stack=stack)
        valkey, valkey_pid = start_somewhere(valkey_on, home=home, stack=stack)
        postgres, postgres_pid = starting.result()
        postgres.psql(TEST_GRANTS, database="template1")
        yield ServerAddresses(
            superuser_url=postgres.url("postgres"),
            owner_url=postgres.url("muster_owner"),
            app_url=postgres.url("muster_app"),
            system_url=postgres.url("muster_system"),
            redis_url=valkey.url,
            postgres_pid=postgres_pid,
            valkey_pid=valkey_pid,
        )


def start_somewhere(
    server_on: Callable[[int], Server], *, home: Path, stack: contextlib.ExitStack
) -> tuple[Server, int]:
    """Start a server on some port: between choosing and binding, another may have taken it."""
    for attempt in range(ATTEMPTS):
        server = server_on(free_port())
        service = server.service()
        try:
            process = processes.start(service, home=home)
        except ServerDiedError:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            stack.callback(processes.stop, service, process)
            return server, process.pid
    raise AssertionError("the last attempt returns or raises")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--durable", action="store_true")
    arguments = parser.parse_args()
    host_servers(arguments.home, durable=arguments.durable)
