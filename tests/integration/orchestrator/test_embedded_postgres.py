"""PostgreSQL under each identity that it may have to take."""

import os
import shutil
import signal
from pathlib import Path

import psycopg
import pytest

from orchestrator.embedded import processes
from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.ports import free_port
from orchestrator.embedded.postgres import NOBODY, Identity, Passwords, Postgres, best_identity
from orchestrator.embedded.processes import processes_in

PASSWORDS = Passwords(superuser="s'\"$1", owner="o%20@/", app="a b", system="\\'")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become nobody")


def make_postgres(home, identity):
    home.mkdir(parents=True, exist_ok=True)
    (home / "logs").mkdir(exist_ok=True)
    return Postgres(
        home=home, port=free_port(), passwords=PASSWORDS, identity=identity, durable=False
    )


@pytest.fixture
def run(tmp_path):
    """Starts servers, and stops them at the end of the test."""
    started = []

    def start(postgres):
        service = postgres.service()
        process = processes.start(service, home=postgres.home)
        started.append((service, process))
        return process

    yield start
    for service, process in started:
        processes.stop(service, process)


def test_odd_characters_in_passwords_and_paths_are_taken_as_they_are(tmp_path, run):
    postgres = make_postgres(tmp_path / 'it\'s a "home" $x', best_identity())

    run(postgres)

    for role in ("postgres", "muster_owner", "muster_app", "muster_system"):
        psycopg.connect(postgres.url(role)).close()


def test_a_changed_password_holds_from_the_next_start(tmp_path, run):
    old = make_postgres(tmp_path / "home", best_identity())
    processes.stop(old.service(), run(old))
    passwords = Passwords(superuser=PASSWORDS.superuser, owner="o", app="new", system="s")
    new = Postgres(
        home=old.home, port=old.port, passwords=passwords, identity=old.identity, durable=False
    )

    run(new)

    psycopg.connect(new.url("muster_app")).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(old.url("muster_app"))


def test_a_stale_pid_file_with_a_living_number_is_no_obstacle(tmp_path, run):
    postgres = make_postgres(tmp_path / "home", best_identity())
    process = run(postgres)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for child in processes_in(postgres.data):
        child.wait()
    (postgres.data / "postmaster.pid").write_text(f"{os.getppid()}\n{postgres.data}\n")

    run(postgres)

    psycopg.connect(postgres.url("muster_app")).close()


def test_an_initialisation_that_was_killed_starts_anew(tmp_path, run):
    postgres = make_postgres(tmp_path / "home", best_identity())
    (postgres.base / "unfinished" / "base").mkdir(parents=True)

    run(postgres)

    assert not (postgres.base / "unfinished").exists()


@as_root
def test_nobody_serves_from_a_home_that_is_closed_to_it(tmp_path, run):
    postgres = make_postgres(tmp_path / "home", Identity.NOBODY)
    tmp_path.chmod(0o700)
    try:
        process = run(postgres)

        assert Path(f"/proc/{process.pid}").stat().st_uid == NOBODY
        psycopg.connect(postgres.url("muster_app")).close()
        assert not postgres.data.is_relative_to(tmp_path)
    finally:
        processes.stop(postgres.service(), process)
        shutil.rmtree(postgres.base.parent)


@as_root
def test_a_directory_that_a_stranger_prepared_is_refused(tmp_path):
    postgres = make_postgres(tmp_path / "home", Identity.NOBODY)
    tmp_path.chmod(0o700)
    stranger = postgres.base.parent
    stranger.mkdir()
    os.chown(stranger, NOBODY, NOBODY)
    try:
        with pytest.raises(EmbeddedError, match="belongs to another user"):
            postgres.prepare()
    finally:
        stranger.rmdir()
