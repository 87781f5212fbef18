"""The engine's own connections: autocommit, prepared statements, one SQL function a round trip.

They are apart from Django's, which serve people's pages. A connection is held for the length
of one call, so hundreds of agents in flight share a handful.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import structlog
from django.conf import settings
from django.db import connections
from psycopg import Connection, OperationalError
from psycopg.errors import ProgramLimitExceeded
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

Row = DictRow
T = TypeVar("T")
log = structlog.get_logger(__name__)

_RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)


# A pool of one, so that leases are renewed however busy the others are.
LEASES = "leases"


def one(query: str, *arguments: Any, alias: str = "default") -> Row | None:
    """The only row of a statement, or None. The statement is its own transaction."""
    with _pool(alias).connection() as connection:
        return connection.execute(query, arguments, prepare=True).fetchone()


def many(query: str, *arguments: Any, alias: str = "default") -> list[Row]:
    with _pool(alias).connection() as connection:
        return connection.execute(query, arguments, prepare=True).fetchall()


def persistently(work: Callable[[], T], *, give_up: Callable[[], bool]) -> T | None:
    """Do `work` again through failures of the database, until `give_up` says so; then None.

    What the database will refuse again, such as a value beyond its limits, is raised.
    """
    pause = threading.Event()
    for tries in itertools.count():
        try:
            return work()
        except ProgramLimitExceeded:
            raise
        except (OperationalError, PoolTimeout) as error:
            if give_up():
                return None
            log.warning("database_away", tries=tries + 1, error=type(error).__name__)
        pause.wait(_RETRY_SECONDS[min(tries, len(_RETRY_SECONDS) - 1)])
    return None


def is_away(error: Exception) -> bool:
    """Whether the server cannot be reached, rather than refusing what it was told."""
    return isinstance(error, PoolTimeout) or (
        isinstance(error, OperationalError) and error.sqlstate is None
    )


@contextmanager
def transaction(alias: str = "default") -> Iterator[Connection[Row]]:
    """Several statements as one transaction."""
    with _pool(alias).connection() as connection, connection.transaction():
        yield connection


def rows(connection: Connection[Row], query: str, arguments: Sequence[Any]) -> list[Row]:
    return connection.execute(query, arguments, prepare=True).fetchall()


def close_pools() -> None:
    for alias in ("default", "system", LEASES):
        _pool(alias).close()
    _pool.cache_clear()


@cache
def _pool(alias: str) -> ConnectionPool[Connection[Row]]:
    parameters = connections["default" if alias == LEASES else alias].get_connection_params()
    # Django's cursors and adapters are for its own types; plain psycopg is faster.
    for name in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(name, None)
    return ConnectionPool(
        kwargs={
            **parameters,
            "autocommit": True,
            "row_factory": dict_row,
            "application_name": "muster-engine",
        },
        min_size=1,
        max_size=1 if alias == LEASES else settings.MUSTER_ENGINE_POOL_SIZE,
        timeout=30,
        name=f"engine-{alias}",
        open=True,
    )
