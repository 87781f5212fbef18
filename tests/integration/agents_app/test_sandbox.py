"""Tools in processes of their own, which end whatever becomes of them."""

import socket
import threading
import time
from pathlib import Path

import psutil
import pytest

from agents_app.core.cancellation import Cancellation, cancelled_by
from agents_app.core.errors import ToolFailedError, ToolTimeoutError
from agents_app.core.tools import Tool
from agents_app.tools.regex_search import regex_search
from agents_app.tools.text_diff import text_diff
from tests import sandboxed_tools as tools
from tests.eventually import eventually


def left_over() -> list[psutil.Process]:
    """Processes of the sandbox anywhere, also those that have left their parents."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any("sandbox/child.py" in part for part in process.info["cmdline"] or ())
    ]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> object:
    yield
    eventually(lambda: not left_over(), within=5)


def test_result_comes_back() -> None:
    assert tools.behave.call({"words": ["a", "\u00e9"]}) == {"words": ["a", "\u00e9"]}


def test_arguments_are_checked_before_a_process_is_started() -> None:
    with pytest.raises(ToolFailedError, match="arguments: words"):
        tools.behave.call({"words": 5})


@pytest.mark.parametrize(
    ("tool", "told"),
    [
        (tools.refuse, "I would rather not"),
        (tools.eat_memory, "more memory than 256 MB"),
        (tools.flood, "the result has 104857602 bytes"),
        (tools.kill_itself, "ended without a result"),
        (tools.write_much, "File too large|ended without a result"),
        (tools.leave, "ended without a result"),
    ],
    ids=lambda given: given.name if isinstance(given, Tool) else "",
)
def test_failure_is_told(tool: Tool, told: str) -> None:
    with pytest.raises(ToolFailedError, match=told):
        tool.call({})


def test_endless_loop_is_ended() -> None:
    began = time.monotonic()

    with pytest.raises(ToolTimeoutError):
        tools.never_end.call({})

    assert time.monotonic() - began < 5


def test_it_can_start_nothing() -> None:
    with pytest.raises(ToolFailedError, match="BlockingIOError"):
        tools.multiply.call({})


def test_call_that_nobody_waits_for_is_ended() -> None:
    cancellation = Cancellation()
    threading.Timer(0.3, cancellation.set).start()

    with cancelled_by(cancellation), pytest.raises(ToolFailedError):
        tools.never_end.call({})


def test_inside_there_is_nothing_of_ours(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w"), socket.create_server(("127.0.0.1", 0)) as server:
        seen = tools.look_around.call({"port": server.getsockname()[1]})

    assert set(seen["environment"]) <= {"HOME", "LANG", "LC_CTYPE", "PATH", "TMPDIR"}
    assert len(seen["files"]) <= 5
    assert seen["inside"] == []
    assert not Path(str(seen["folder"])).exists()
    assert seen["privileges"]
    assert seen["user"] != 0
    # Where the machine does not let it leave the network, it says so.
    assert (seen["network"] != 0) == (seen["pid"] < 10)


def test_hostile_pattern_costs_a_timeout_and_no_more() -> None:
    began = time.monotonic()

    with pytest.raises(ToolTimeoutError):
        regex_search.call({"pattern": "(a+)+$", "text": "a" * 40 + "b"})

    assert time.monotonic() - began < 15


def test_regex_search() -> None:
    given = {"pattern": r"(?P<key>\w+)=(\d+)", "text": "a=1 b=2"}

    found = regex_search.call({**given, "max_matches": 1})

    assert found == {
        "matches": [
            {"start": 0, "end": 3, "text": "a=1", "groups": ["a", "1"], "named": {"key": "a"}}
        ],
        "is_complete": False,
    }


def test_text_diff() -> None:
    found = text_diff.call({"before": "a\nb\n", "after": "a\nc\n"})

    assert (found["added"], found["removed"]) == (1, 1)
    assert "-b\n+c" in found["diff"]
