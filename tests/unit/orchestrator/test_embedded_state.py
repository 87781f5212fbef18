import multiprocessing
import os
import stat

import pytest

from orchestrator.embedded.errors import AlreadyRunningError
from orchestrator.embedded.processes import birth
from orchestrator.embedded.state import (
    Home,
    State,
    read_state,
    supervising,
    supervisor_pid,
    write_private,
    write_state,
)


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "a home")
    home.prepare()
    return home


def test_state_survives_a_round_trip(home):
    state = State(
        served_by="b:1", ports={"web": 8000}, processes={"web": {"pid": 1, "birth": "b:1"}}
    )

    write_state(home, state)

    assert read_state(home) == state


@pytest.mark.parametrize("text", ["", "{", "[]", '{"unknown": 1}'])
def test_unreadable_state_counts_as_none(home, text):
    home.state_file.write_text(text)

    assert read_state(home) == State()


def test_private_files_are_readable_by_their_owner_only(home):
    write_private(home.env_file, "SECRET_KEY=x\n")

    assert stat.S_IMODE(home.env_file.stat().st_mode) == 0o600


def test_a_failed_write_keeps_the_old_file(home, monkeypatch):
    write_private(home.env_file, "old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))

    with pytest.raises(OSError, match="full"):
        write_private(home.env_file, "new")

    assert home.env_file.read_text() == "old"
    assert {path.name for path in home.path.iterdir()} == {"logs", "env"}


def test_a_second_supervisor_is_refused(home):
    again = supervising(home)

    with supervising(home), pytest.raises(AlreadyRunningError, match="make down"):
        again.__enter__()


def test_supervisor_pid_is_told_while_it_lives(home):
    with supervising(home):
        assert supervisor_pid(home) == os.getpid()

    assert supervisor_pid(home) is None


def hold_and_die(home):
    with supervising(home):
        os._exit(9)


def test_a_dead_supervisor_holds_nothing(home):
    process = multiprocessing.get_context("spawn").Process(target=hold_and_die, args=(home,))
    process.start()
    process.join()

    assert process.exitcode == 9
    assert supervisor_pid(home) is None


def test_birth_tells_processes_apart():
    assert birth(os.getpid()) != birth(1)
    assert birth(2**22 + 1) is None
