"""A tenant's database is read, never written, within bounds of time and size."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from agents_app.core.cancellation import Cancellation, cancelled_by
from agents_app.core.errors import ToolFailedError
from agents_app.tools.sql_query import _connection_of
from agents_app.tools.web_address import WebRefusedError
from tests.integration.agents_app.database_proxy import DatabaseProxy, database_proxy
from tests.integration.agents_app.web_servers import allow, keep_secret, use
from tests.world import World

PASSWORD = "warehouse-0123456789"


@pytest.fixture
def warehouse(live_db: None, settings: Any) -> Iterator[str]:
    """A table of teas, and the address of a role that could write it."""
    owner = os.environ["MIGRATION_DATABASE_URL"]
    parts = urlsplit(owner)
    settings.MUSTER_TOOL_PRIVATE_HOSTS = frozenset({("127.0.0.1", parts.port or 5432)})
    password = parts.password or PASSWORD
    place = f"{parts.username}:{password}@127.0.0.1:{parts.port or 5432}"
    with psycopg.connect(owner, autocommit=True) as session:
        session.execute("DROP TABLE IF EXISTS tea")
        session.execute("CREATE TABLE tea (name text, grams int, since date, price numeric(10,2))")
        session.execute(
            "INSERT INTO tea VALUES ('Assam', 50, '2026-01-02', 4.50), ('Oolong', 7, NULL, 12)"
        )
        yield urlunsplit(("postgresql", place, parts.path, "sslmode=disable", ""))
        session.execute("DROP TABLE tea")


@pytest.fixture
def reader(acme: World, warehouse: str) -> World:
    keep_secret(acme, "warehouse", warehouse)
    allow(acme, "sql_query", credential="warehouse", timeout_seconds=5)
    return acme


def rows(world: World, query: str, *parameters: Any, **more: Any) -> Any:
    return use(world, "sql_query", query=query, parameters=list(parameters), **more)["rows"]


def refusal(world: World, query: str, *parameters: Any) -> str:
    with pytest.raises(ToolFailedError) as caught:
        rows(world, query, *parameters)
    return caught.value.detail


def test_rows_come_as_json(reader: World) -> None:
    assert rows(reader, "SELECT * FROM tea ORDER BY grams DESC;") == [
        {"name": "Assam", "grams": 50, "since": "2026-01-02", "price": 4.5},
        {"name": "Oolong", "grams": 7, "since": None, "price": 12},
    ]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT name FROM tea WHERE name = $1 -- by name",
        "WITH t AS (SELECT * FROM tea) SELECT name FROM t WHERE name = $1",
        "SELECT name FROM tea WHERE name LIKE '%ss%' AND name = $1",
    ],
)
def test_values_go_as_parameters(reader: World, query: str) -> None:
    assert rows(reader, query, "Assam") == [{"name": "Assam"}]
    assert rows(reader, query, "' OR true --") == []


def test_more_rows_than_were_asked_for_are_left_out(reader: World) -> None:
    found = use(reader, "sql_query", query="SELECT generate_series(1, 1000000) AS n", max_rows=3)

    assert found == {"rows": [{"n": 1}, {"n": 2}, {"n": 3}], "truncated": True}


WRITES = [
    *(
        "INSERT INTO tea VALUES ('x')",
        "UPDATE tea SET grams = 0",
        "DELETE FROM tea",
        "DROP TABLE tea",
    ),
    *("TRUNCATE tea", "CREATE TABLE more (n int)", "GRANT ALL ON tea TO PUBLIC", "VACUUM tea"),
    "WITH gone AS (DELETE FROM tea RETURNING *) SELECT * FROM gone",
    "SELECT 1; DELETE FROM tea",
    "SELECT 1) AS x; DELETE FROM tea; --",
    "SELECT 1) AS x; COMMIT; BEGIN; DELETE FROM tea; COMMIT; --",
    "SELECT 1; COMMIT; SET default_transaction_read_only = off; DELETE FROM tea",
    "SET TRANSACTION READ WRITE",
    "COMMIT",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SELECT * FROM tea FOR UPDATE",
    "SELECT nextval('tea_seq')",
    "SELECT lo_create(7)",
    "SELECT query_to_xml('DELETE FROM tea', true, true, '')",
    "COPY tea TO PROGRAM 'cat'",
    "COPY tea FROM STDIN",
    "DO $$ BEGIN DELETE FROM tea; END $$",
    "CALL nothing()",
    "LISTEN tea",
    "PREPARE p AS DELETE FROM tea",
    "",
    "nonsense",
    "\x00",
]


@pytest.mark.parametrize("query", WRITES, ids=lambda query: query[:30] or "empty")
def test_nothing_is_written_by_a_role_that_could(reader: World, warehouse: str, query: str) -> None:
    refusal(reader, query)

    with psycopg.connect(warehouse) as session:
        assert session.execute("SELECT count(*), sum(grams) FROM tea").fetchone() == (2, 57)


def test_function_that_writes_is_refused(reader: World, warehouse: str) -> None:
    with psycopg.connect(warehouse, autocommit=True) as session:
        session.execute(
            "CREATE OR REPLACE FUNCTION drink() RETURNS int LANGUAGE plpgsql AS $$ BEGIN "
            "PERFORM set_config('transaction_read_only', 'off', false); "
            "DELETE FROM tea; RETURN 1; END $$"
        )
        try:
            refusal(reader, "SELECT drink()")
            assert session.execute("SELECT count(*) FROM tea").fetchone() == (2,)
        finally:
            session.execute("DROP FUNCTION drink()")


def test_query_that_takes_too_long_is_ended(acme: World, warehouse: str) -> None:
    keep_secret(acme, "warehouse", warehouse)
    allow(acme, "sql_query", credential="warehouse", timeout_seconds=1)

    assert "statement timeout" in refusal(acme, "SELECT pg_sleep(60)")


def test_query_ends_soon_after_nobody_waits_for_it(reader: World) -> None:
    cancellation, started = Cancellation(), time.monotonic()
    threading.Timer(0.5, cancellation.set).start()

    with cancelled_by(cancellation):
        refusal(reader, "SELECT pg_sleep(60)")

    assert time.monotonic() - started < 4


@pytest.mark.parametrize(
    "query",
    [
        "SELECT repeat('x', 100000000)",
        "SELECT repeat('x', 60000) FROM generate_series(1, 50)",
        "SELECT * FROM generate_series(1, 1000) a, LATERAL (SELECT repeat('\u00e9', 2000)) b",
    ],
)
def test_rows_that_are_too_large_are_refused(reader: World, query: str) -> None:
    with pytest.raises(ToolFailedError, match="too large"):
        use(reader, "sql_query", query=query, max_rows=1_000)


def test_database_that_never_answers_is_given_up(
    acme: World, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents_app.tools.sql_query._CONNECT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings.MUSTER_TOOL_PRIVATE_HOSTS = frozenset({("127.0.0.1", port)})
        keep_secret(
            acme, "warehouse", f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/d?sslmode=disable"
        )
        allow(acme, "sql_query", credential="warehouse", timeout_seconds=1)
        started = time.monotonic()

        told = refusal(acme, "SELECT 1")

    assert "cannot be reached" in told
    assert PASSWORD not in told
    assert time.monotonic() - started < 8


@pytest.fixture
def proxied(acme: World, warehouse: str, settings: Any) -> Callable[[DatabaseProxy], World]:
    """Acme, with a proxy for its database."""

    def proxied(proxy: DatabaseProxy) -> World:
        settings.MUSTER_TOOL_PRIVATE_HOSTS = frozenset({("127.0.0.1", proxy.port)})
        before = f":{urlsplit(warehouse).port}/"
        keep_secret(acme, "warehouse", warehouse.replace(before, f":{proxy.port}/"))
        allow(acme, "sql_query", credential="warehouse", timeout_seconds=5)
        return acme

    return proxied


def test_database_that_falls_silent_after_its_answer_keeps_nobody(
    proxied: Callable[[DatabaseProxy], World], warehouse: str
) -> None:
    port = urlsplit(warehouse).port or 5432
    with database_proxy(port, silent_after=b"Assam") as proxy:
        world, found = proxied(proxy), SimpleQueue[Any]()
        asked = "SELECT name FROM tea WHERE grams = 50"
        threading.Thread(target=lambda: found.put(rows(world, asked)), daemon=True).start()

        assert found.get(timeout=4) == [{"name": "Assam"}]


def test_rows_that_nobody_will_read_are_not_taken(
    proxied: Callable[[DatabaseProxy], World], warehouse: str
) -> None:
    row = "SELECT 'much' AS m, repeat('x', 60000) FROM generate_series(1, 1000)"
    port = urlsplit(warehouse).port or 5432
    with database_proxy(port, silent_after=b"much") as proxy:
        world, started = proxied(proxy), time.monotonic()
        with pytest.raises(ToolFailedError, match="too large"):
            rows(world, row, max_rows=1_000)

        assert time.monotonic() - started < 4
        assert proxy.answered < 30_000_000


@pytest.mark.parametrize(
    "address",
    [
        *(f"postgresql://u:{PASSWORD}@{host}/d" for host in ("127.0.0.1", "localhost", "[::1]")),
        *(
            f"postgresql://u:{PASSWORD}@{host}/d"
            for host in ("10.0.0.1", "2130706433", "db.internal")
        ),
        *(
            f"postgresql://u:{PASSWORD}@{host}/d"
            for host in ("%2Fvar%2Frun", "a.example,10.0.0.1", "")
        ),
        *(
            f"postgresql://u:{PASSWORD}@a.example/d?{key}"
            for key in ("hostaddr=10.0.0.1", "service=x")
        ),
        *(
            f"postgresql://u:{PASSWORD}@a.example/d?{key}"
            for key in ("sslkey=/etc/k", "passfile=/x")
        ),
        *(
            f"postgresql://u:{PASSWORD}@a.example/d?{key}"
            for key in ("options=-c%20x=y", "sslmode=allow")
        ),
        *("postgresql://u@a.example/d", "https://a.example/", "nonsense-nonsense", "host='"),
        f"postgresql://u:{PASSWORD}@a.example:99999x/d",
    ],
)
def test_address_that_leads_elsewhere_is_refused(address: str) -> None:
    with pytest.raises(WebRefusedError) as caught:
        _connection_of(address)

    assert PASSWORD not in str(caught.value)


def test_what_the_driver_would_find_by_itself_is_not_used(
    warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGPASSWORD", "PGUSER", "PGHOST", "PGOPTIONS", "PGSERVICE", "PGHOSTADDR"):
        monkeypatch.setenv(name, "the operator's")

    where = _connection_of(warehouse)

    assert where["hostaddr"] == "127.0.0.1"
    assert (where["passfile"], where["sslcertmode"], where["options"]) == (
        os.devnull,
        "disable",
        "",
    )
