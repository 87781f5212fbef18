"""Reading a tenant's own PostgreSQL database, and nothing but reading."""

import json
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Annotated, Any, Final

import psycopg
from psycopg import conninfo
from pydantic import BaseModel, ConfigDict, Field

from agents_app.core.cancellation import current_cancellation
from agents_app.core.tool_sources import ToolOwner
from agents_app.core.tools import Tool, tool
from agents_app.providers.transport import Target, addresses_of
from agents_app.tools.web_address import WebRefusedError, check_host, may_connect
from agents_app.tools.web_failures import failing_as
from agents_app.tools.web_fetch import MAX_RESULT_BYTES

MAX_ROW_BYTES: Final = 64 * 1024
MAX_BYTES: Final = 200 * 1024
_CONNECT_SECONDS: Final = 10
_PORT: Final = 5432
# Others name files of this machine, or have the driver look for secrets of its own.
_KEYS: Final = frozenset({"host", "port", "user", "password", "dbname", "sslmode"})
_SSL: Final = frozenset({"disable", "require", "verify-full"})

Scalar = str | int | float | bool | None


class SqlSettings(BaseModel):
    """The credential for tools that holds the address, as a postgresql:// URL."""

    model_config = ConfigDict(extra="forbid")

    credential: str = Field(default="", max_length=100)
    timeout_seconds: int = Field(default=15, ge=1, le=120)


class SqlQuery:
    name = "sql_query"
    description = "Reads the tenant's own database."

    def tools(self, owner: ToolOwner) -> Iterable[Tool]:
        yield _tool(owner, owner.settings_of(self.name, SqlSettings))


def _tool(owner: ToolOwner, settings: SqlSettings) -> Tool:
    seconds = settings.timeout_seconds

    @tool(
        needs_grant=True,
        settings=SqlSettings,
        timeout_seconds=seconds + _CONNECT_SECONDS + 5,
        max_result_bytes=MAX_RESULT_BYTES,
    )
    def sql_query(
        query: Annotated[str, Field(max_length=20_000, description="One SELECT, with $1, $2 …")],
        parameters: Annotated[list[Scalar], Field(max_length=100)] = [],  # noqa: B006 - not changed
        max_rows: Annotated[int, Field(ge=1, le=1_000)] = 100,
    ) -> dict[str, Any]:
        """Read the database with one SELECT of PostgreSQL. Values belong into `parameters`."""
        with failing_as("sql_query"):
            where = _connection_of(owner.secret(settings.credential))
            return _read(where, query, parameters, most=max_rows, seconds=seconds)

    return sql_query


def _connection_of(address: str) -> dict[str, Any]:
    """How to connect, to an address that was looked at. Raises WebRefusedError."""
    try:
        given = conninfo.conninfo_to_dict(address)
        port = int(given.get("port") or _PORT)
    except (psycopg.ProgrammingError, ValueError):
        raise WebRefusedError("the credential is not a postgresql:// URL") from None
    if unknown := given.keys() - _KEYS:
        raise WebRefusedError(f"its URL may not hold {', '.join(sorted(unknown))}")
    host, sslmode = str(given.get("host") or ""), given.get("sslmode") or "require"
    if not host or not given.get("password") or sslmode not in _SSL:
        raise WebRefusedError(
            "its URL needs a host, a password, and an sslmode of require, verify-full or disable"
        )
    check_host(host, port)
    return {
        **given,
        "port": port,
        # Host and address together: this one is dialled, and that one is what TLS verifies.
        "hostaddr": _address_of(host, port),
        "sslmode": sslmode,
        # What the driver would otherwise find in files and in the environment is the operator's.
        "sslcertmode": "disable",
        "gssencmode": "disable",
        "passfile": os.devnull,
        "sslrootcert": "system" if sslmode == "verify-full" else "",
        "options": "",
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "muster sql_query",
    }


def _address_of(host: str, port: int) -> str:
    try:
        found = addresses_of(host, port)
    except Exception as error:
        raise WebRefusedError(f"cannot resolve {host}") from error
    for address in found:
        if may_connect(Target(host, port, address)):
            return address
    raise WebRefusedError(f"{host} leads into a private network")


def _read(
    where: dict[str, Any], query: str, parameters: Sequence[Scalar], *, most: int, seconds: int
) -> dict[str, Any]:
    """The first rows, and whether there are more. Raises WebRefusedError."""
    inner = query.strip().rstrip(";")
    wrapped = (
        f"SELECT left(row_to_json(muster_row)::text, {MAX_ROW_BYTES + 1}) "  # noqa: S608 - see below
        f"FROM (\n{inner}\n) AS muster_row LIMIT {most + 1}"
    )
    try:
        # Closed without COMMIT, as nothing was written: a server may never answer it.
        with closing(_session(where)) as session, _hung_up_after(session, seconds=seconds + 2):
            session.execute("BEGIN READ ONLY")
            session.execute(f"SET LOCAL statement_timeout = {seconds * 1000}")
            # Once something was read, nothing turns this into a transaction that may write.
            session.execute("SELECT 1")
            # Row by row, and by the protocol that takes one statement and never several. It is
            # broken off by closing the session: to cancel it would be to wait for the server.
            rows = session.cursor().stream(wrapped.encode(), parameters)
            return _shown((row[0] for row in rows), most)
    except psycopg.Error as error:
        raise WebRefusedError(_told(error)) from error


def _session(where: dict[str, Any]) -> psycopg.Connection[Any]:
    return psycopg.connect(**where, autocommit=True, cursor_factory=psycopg.RawCursor)


@contextmanager
def _hung_up_after(session: psycopg.Connection[Any], *, seconds: float) -> Iterator[None]:
    """Break the connection once the time is over, or nobody waits any more, whatever it does."""
    wire = socket.socket(fileno=os.dup(session.fileno()))

    def hang_up() -> None:
        with suppress(OSError):
            wire.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    current_cancellation().then(hang_up)
    try:
        yield
    finally:
        timer.cancel()
        wire.close()


def _shown(rows: Iterable[str], most: int) -> dict[str, Any]:
    shown: list[Any] = []
    size = 0
    for row in rows:
        if len(shown) == most:
            return {"rows": shown, "truncated": True}
        size += len(row.encode())
        if len(row) > MAX_ROW_BYTES or size > MAX_BYTES:
            raise WebRefusedError("the rows are too large; ask for fewer columns or rows")
        shown.append(json.loads(row))
    return {"rows": shown, "truncated": False}


def _told(error: psycopg.Error) -> str:
    told = error.diag.message_primary
    if told:
        return f"the database says: {told}"[:300]
    if isinstance(error, psycopg.OperationalError):
        return "the database cannot be reached, or did not answer in time"
    return f"the database refuses it: {error}"[:300]
