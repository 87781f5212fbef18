"""The real bootstrap in a clone of its own, without a registry."""

import os
import shutil
import subprocess
import sys

import pytest

from orchestrator.embedded.commands import REPOSITORY

REQUIREMENT_FILES = ("base.txt", "local.txt", "dev.txt", "model.txt")


def make_clone(clone):
    """A clone in a path with spaces whose requirements are empty."""
    embedded = clone / "orchestrator" / "embedded"
    embedded.mkdir(parents=True)
    for name in ("bootstrap.sh", "bootstrap.py"):
        shutil.copy(REPOSITORY / "orchestrator" / "embedded" / name, embedded)
    (clone / "requirements").mkdir()
    for name in REQUIREMENT_FILES:
        (clone / "requirements" / name).touch()
    return clone


@pytest.fixture
def clone(tmp_path):
    return make_clone(tmp_path / "a clone")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    clone = make_clone(tmp_path_factory.mktemp("installed") / "a clone")
    assert finish(bootstrap(clone))[0] == 0
    return clone


def bootstrap(clone, **environment):
    return subprocess.Popen(
        ["sh", "orchestrator/embedded/bootstrap.sh"],
        cwd=clone,
        # Nothing is fetched: pip fills in for the uv that cannot be had.
        env={**os.environ, "PYTHON": sys.executable, "PIP_NO_INDEX": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def test_the_second_call_finds_nothing_to_do(installed):
    assert (installed / ".muster" / "venv" / "bin" / "python").exists()

    assert finish(bootstrap(installed)) == (0, "")


def test_changed_pins_are_installed(installed):
    (installed / "requirements" / "base.txt").write_text("# changed\n")

    assert "Installing base.txt" in finish(bootstrap(installed))[1]


def test_an_installation_that_was_killed_starts_anew(installed):
    remains = installed / ".muster" / "venv" / "half-installed"
    remains.touch()
    (installed / ".muster" / "venv.unfinished").touch()

    code, said = finish(bootstrap(installed))

    assert code == 0
    assert "Making a Python environment" in said
    assert not remains.exists()


def test_two_at_once_do_not_meet(clone):
    outcomes = [finish(process) for process in [bootstrap(clone), bootstrap(clone)]]

    assert [code for code, _ in outcomes] == [0, 0]
    assert sum("Making a Python environment" in said for _, said in outcomes) == 1


def test_an_unreachable_registry_is_told_in_a_sentence(clone):
    (clone / "requirements" / "base.txt").write_text("django==5.2.19\n")
    nowhere = {"PIP_NO_INDEX": "", "PIP_INDEX_URL": "http://127.0.0.1:1/", "PIP_RETRIES": "1"}
    nowhere |= {"PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null"}

    code, said = finish(bootstrap(clone, **nowhere))

    assert code == 1
    assert said.endswith(
        "The package registry cannot be reached. Check the network "
        "(or the proxy and mirror settings of pip) and try again.\n"
    )
