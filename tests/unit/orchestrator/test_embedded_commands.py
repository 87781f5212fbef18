import subprocess
import sys

import pytest

from orchestrator.dispatch.routing import AGENT_QUEUES
from orchestrator.embedded import commands


def test_agent_workers_and_control_share_no_queue():
    agents, control = commands.worker(), commands.control()

    queues = [set(line[line.index("-Q") + 1].split(",")) for line in (agents, control)]

    assert not queues[0] & queues[1]


def test_a_later_option_reaches_the_program():
    assert commands.web("--host", "0.0.0.0")[-3:-1] == ("--host", "0.0.0.0")


def test_flower_without_a_password_is_refused(monkeypatch):
    monkeypatch.delenv("FLOWER_BASIC_AUTH", raising=False)

    with pytest.raises(SystemExit, match="FLOWER_BASIC_AUTH"):
        commands.command_for("flower")


def test_an_unknown_process_is_refused_by_name():
    with pytest.raises(SystemExit, match="web, worker, control, flower"):
        commands.command_for("beat")


def test_commands_need_the_standard_library_alone():
    probe = "import sys; sys.path.insert(0, '.'); import orchestrator.embedded.commands"

    done = subprocess.run([sys.executable, "-I", "-S", "-c", probe], cwd=commands.REPOSITORY)

    assert done.returncode == 0


def test_worker_drains_every_queue_that_steps_go_to():
    command = commands.worker()

    assert set(command[command.index("-Q") + 1].split(",")) == AGENT_QUEUES
