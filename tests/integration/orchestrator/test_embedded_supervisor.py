"""Real servers under a real supervisor, which is killed in every way."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from orchestrator.embedded.background import wait_until
from orchestrator.embedded.commands import REPOSITORY, read_env_file
from orchestrator.embedded.leftovers import leftovers
from orchestrator.embedded.model import answers
from orchestrator.embedded.processes import birth
from orchestrator.embedded.state import Home, is_serving, read_state, supervisor_pid

STUB = Path(__file__).with_name("embedded_stub.py")
INHERITED = {
    name: value
    for name, value in os.environ.items()
    if not name.endswith(("_URL", "_KEY")) and name not in ("PORT", "FLOWER_PORT")
}
# Where no server is, so that none is started: loading the model takes the longest.
NO_MODEL = "http://127.0.0.1:9/v1"


class Muster:
    """One `.muster` directory, and the supervisor started for it."""

    def __init__(self, path):
        self.home = Home(path)
        self.supervisor = None

    def spawn(self, *arguments, **environment):
        return subprocess.Popen(
            [sys.executable, STUB, "--home", self.home.path, *arguments],
            cwd=REPOSITORY,
            env={
                **INHERITED,
                "PYTHONPATH": str(REPOSITORY),
                "LOCAL_MODEL_URL": NO_MODEL,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start(self, **environment):
        self.supervisor = self.spawn("run-servers", **environment)
        wait_until(lambda: self.is_ready or self.supervisor.poll() is not None, seconds=60)
        assert self.is_ready, self.supervisor.communicate()[1]

    def call(self, *arguments, **environment):
        process = self.spawn(*arguments, **environment)
        said, complained = process.communicate(timeout=100)
        return process.returncode, said, complained

    def signal(self, number):
        os.kill(self.supervisor.pid, number)
        code = self.supervisor.wait(timeout=60)
        self.supervisor.communicate()
        return code

    @property
    def is_ready(self):
        return self.supervisor.poll() is None and is_serving(self.home)

    def pid(self, name):
        return read_state(self.home).processes[name]["pid"]

    @property
    def environment(self):
        return read_env_file(self.home.env_file)

    def query(self, sql):
        url = self.environment["MIGRATION_DATABASE_URL"]
        with psycopg.connect(url, autocommit=True, connect_timeout=3) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else None

    def serves(self, name):
        try:
            return {
                "postgres": lambda: self.query("SELECT 1") == [(1,)],
                "valkey": lambda: redis.Redis.from_url(self.environment["REDIS_URL"]).ping(),
                "model": lambda: answers(self.environment["LOCAL_MODEL_URL"] + "/models"),
                "web": lambda: answers(read_state(self.home).addresses["site"]),
            }[name]()
        except (psycopg.Error, redis.RedisError):
            return False


@pytest.fixture
def muster(tmp_path):
    muster = Muster(tmp_path / "a home")
    yield muster
    muster.call("down")
    if muster.supervisor is not None:
        muster.supervisor.communicate(timeout=60)


def test_an_orderly_end_leaves_no_process(muster):
    muster.start(LOCAL_MODEL_URL="")
    pids = [muster.pid(name) for name in ("postgres", "valkey", "model", "web")]

    assert muster.signal(signal.SIGTERM) == 0

    assert [birth(pid) for pid in pids] == [None] * 4
    assert leftovers(muster.home) == set()
    assert not muster.home.env_file.exists()


@pytest.mark.parametrize("name", ["postgres", "valkey", "model", "web"])
def test_a_killed_program_comes_back_at_the_same_address(muster, name):
    muster.start(LOCAL_MODEL_URL="")
    killed = muster.pid(name)

    os.kill(killed, signal.SIGKILL)

    wait_until(lambda: muster.pid(name) != killed and muster.serves(name), seconds=30)


def test_a_killed_supervisor_leaves_nothing_that_down_does_not_find(muster):
    muster.start()
    muster.signal(signal.SIGKILL)
    assert leftovers(muster.home)

    code, said, _ = muster.call("down")

    assert (code, said) == (0, "Stopped.\n")
    assert leftovers(muster.home) == set()


def test_a_start_after_a_kill_of_everything_finds_its_data(muster):
    muster.start()
    muster.query("CREATE TABLE kept AS SELECT 7 AS number")
    muster.signal(signal.SIGKILL)
    for process in leftovers(muster.home):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()

    muster.start()

    assert muster.query("SELECT number FROM kept") == [(7,)]


def test_a_start_replaces_what_a_killed_supervisor_left(muster):
    muster.start()
    orphan = muster.pid("postgres")
    muster.signal(signal.SIGKILL)

    muster.start()

    assert birth(orphan) is None
    assert muster.serves("postgres")


def test_a_recycled_process_id_is_not_hit(muster):
    muster.start()
    muster.signal(signal.SIGKILL)
    state = json.loads(muster.home.state_file.read_text())
    state["processes"]["stranger"] = {"pid": os.getpid(), "birth": "another-boot:1"}
    muster.home.state_file.write_text(json.dumps(state))

    assert muster.call("down")[0] == 0


def test_a_second_supervisor_says_how_to_stop_the_first(muster):
    muster.start()

    code, _, complained = muster.call("run-servers")

    assert code == 1
    assert "make down" in complained
    assert muster.serves("web")


def test_two_clones_do_not_meet(muster, tmp_path):
    other = Muster(tmp_path / "other home")
    muster.start()
    other.start()

    other.call("down")
    other.supervisor.communicate()

    assert all(muster.serves(name) for name in ("postgres", "valkey", "web"))


def test_a_taken_port_is_told_in_a_sentence(muster):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        code, _, complained = muster.call("run-servers", PORT=port)

    assert code == 1
    assert complained == (
        f"Port {port} is taken by another program. "
        "Set PORT to a free port, or leave it out to let one be chosen.\n"
    )


def test_a_server_of_ones_own_is_used_and_not_started(muster):
    muster.start(LOCAL_MODEL_URL=NO_MODEL)

    assert "model" not in read_state(muster.home).processes
    assert muster.environment["LOCAL_MODEL_URL"] == NO_MODEL


def test_a_program_that_dies_at_its_start_is_told_with_its_log(muster):
    (muster.home.path / "valkey" / "valkey.conf").mkdir(parents=True)

    code, _, complained = muster.call("run-servers")

    assert code == 1
    assert "Is a directory" in complained


@pytest.mark.parametrize("outcome", [0, 3])
def test_one_demo_ends_as_its_run_did_with_one_line_of_json(muster, outcome):
    code, said, complained = muster.call("demo", "--once", STUB_RUN_CODE=str(outcome))

    assert code == outcome, complained
    summary = json.loads(said.splitlines()[-1])
    assert summary["run_id"] == "r1"
    assert summary["arguments"][-1] == "--json"
    assert "outline completed" in complained
    assert leftovers(muster.home) == set()


def test_a_demo_stays_until_it_is_interrupted(muster):
    demo = muster.supervisor = muster.spawn("demo")
    lines = iter(demo.stdout.readline, "")
    assert any("until you press Ctrl-C" in line for line in lines)

    assert muster.serves("web")
    assert muster.signal(signal.SIGINT) == 0
    assert leftovers(muster.home) == set()


def test_a_signal_that_comes_twice_at_once_is_one_wish(muster):
    muster.start()
    os.kill(muster.supervisor.pid, signal.SIGTERM)

    assert muster.signal(signal.SIGTERM) == 0
    assert leftovers(muster.home) == set()


def test_a_second_interrupt_stops_hard(muster):
    muster.start()
    os.kill(muster.pid("web"), signal.SIGSTOP)
    os.kill(muster.supervisor.pid, signal.SIGINT)
    wait_until(lambda: not read_state(muster.home).served_by, seconds=5)

    def ask_again():
        os.kill(muster.supervisor.pid, signal.SIGINT)
        return muster.supervisor.poll() is not None

    wait_until(ask_again, seconds=5)

    assert muster.supervisor.returncode == 130
    assert leftovers(muster.home) == set()


@pytest.mark.parametrize("moment", ["postgres", "database migrations", "demo tenant", "outline"])
def test_an_interrupt_at_any_moment_stops_everything(muster, moment):
    demo = muster.supervisor = muster.spawn("demo")
    said = iter(demo.stderr.readline, "")
    assert any(line.startswith(moment) for line in said)

    demo.send_signal(signal.SIGINT)
    _, complained = demo.communicate(timeout=60)

    # What had been said last may already have been the end of the start.
    assert demo.returncode in (130, 0)
    assert "Traceback" not in complained
    assert leftovers(muster.home) == set()
    assert supervisor_pid(muster.home) is None


def test_an_interrupted_start_leaves_nothing(muster):
    process = muster.spawn("demo", "--once")
    wait_until(lambda: read_state(muster.home).processes, seconds=30)

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode == 130
    assert leftovers(muster.home) == set()
