import os
import signal
import subprocess
import sys

import psycopg
import pytest
import redis

from orchestrator.embedded.background import wait_until
from orchestrator.embedded.commands import REPOSITORY
from orchestrator.embedded.processes import birth
from orchestrator.embedded.testing import test_servers as start_servers


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with start_servers(tmp_path_factory.mktemp("with spaces")) as servers:
        yield servers


def query(url, sql):
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize("role", ["app", "system"])
def test_the_ordinary_roles_are_plain(servers, role):
    url = getattr(servers, f"{role}_url")

    rows = query(
        url,
        "SELECT rolname, rolsuper, rolbypassrls, rolcreatedb, rolcreaterole FROM pg_roles"
        " WHERE rolname = current_user",
    )

    assert rows == [(f"muster_{role}", False, False, False, False)]


def test_the_application_cannot_make_tables(servers):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        query(servers.app_url, "CREATE TABLE sneaky (id int)")


def test_a_wrong_password_is_refused(servers):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(servers.app_url, password="guess")


def test_new_databases_count_statements(servers):
    with psycopg.connect(servers.owner_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE counted")

    url = servers.owner_url.rsplit("/", 1)[0] + "/counted"

    assert query(url, "SELECT count(*) > 0 FROM pg_stat_statements") == [(True,)]


def test_valkey_forgets_nothing_and_asks_for_a_password(servers):
    with redis.Redis.from_url(servers.redis_url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    guess = servers.redis_url.replace("redis://:", "redis://:x")
    with redis.Redis.from_url(guess) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_nothing_is_left_afterwards(tmp_path):
    with start_servers(tmp_path) as servers:
        pids = (servers.postgres_pid, servers.valkey_pid)
        assert all(birth(pid) for pid in pids)

    assert [birth(pid) for pid in pids] == [None, None]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_the_test_process_is_killed(tmp_path):
    script = (
        "import sys, time; from pathlib import Path;"
        "from orchestrator.embedded.testing import test_servers\n"
        "with test_servers(Path(sys.argv[1])) as s:"
        " print(s.postgres_pid, s.valkey_pid, flush=True); sys.stdin.read()"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with user:
        pids = [int(pid) for pid in user.stdout.readline().split()]
        assert all(birth(pid) for pid in pids)
        os.kill(user.pid, signal.SIGKILL)

    wait_until(lambda: not any(birth(pid) for pid in pids), seconds=10)
    wait_until(lambda: list(tmp_path.iterdir()) == [], seconds=10)
