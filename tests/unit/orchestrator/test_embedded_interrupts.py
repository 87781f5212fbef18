"""A signal at every single line of a supervisor's life, where a race puts it now and then."""

import signal
import sys
from contextlib import contextmanager, suppress

import pytest

from orchestrator.embedded import cli
from orchestrator.embedded.report import Reporter
from orchestrator.embedded.state import Home
from orchestrator.embedded.supervisor import STOP_SIGNALS, InterruptedSupervisor, Supervisor


class Idle(Supervisor):
    """Starts and stops nothing, and tells of it."""

    def __init__(self, home):
        super().__init__(home, reporter=Reporter())
        self.told = []

    def _start(self, inherited):
        self.told.append("starting")
        self.told.append("started")

    def _stop(self):
        self.told.append("stopping")
        self.told.append("stopped")


@pytest.fixture(autouse=True)
def as_before():
    handlers = {name: signal.getsignal(name) for name in STOP_SIGNALS}
    yield
    for name, handler in handlers.items():
        signal.signal(name, handler)


@contextmanager
def interrupting(number):
    """Ctrl-C at the line of that number, in whatever function it is; yields the lines so far."""
    lines = []

    def trace(frame, event, argument):
        if event == "line":
            lines.append(frame.f_lineno)
            if len(lines) == number:
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


def life(home, number):
    """What is told of a life with a signal at that line, and whether there was such a line."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    supervisor = Idle(home)
    with (
        suppress(InterruptedSupervisor, KeyboardInterrupt),
        interrupting(number) as lines,
    ):
        supervisor.run({}, lambda stack: 0)
    return supervisor.told, len(lines) >= number


# Before it is told of signals, Python's own Ctrl-C may leave a file for the collector to close.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whatever_the_moment_what_was_started_is_stopped(tmp_path):
    home = Home(tmp_path)
    number, has_line = 1, True
    while has_line:
        told, has_line = life(home, number)
        assert told == [] or told[-2:] == ["stopping", "stopped"], number
        assert told.count("stopping") <= 1, number
        number += 1

    assert number > 30


def test_a_signal_before_the_start_is_not_forgotten(tmp_path, monkeypatch):
    supervisor = Idle(Home(tmp_path))
    allow = supervisor._allow_interruption

    def signalled_first():
        signal.raise_signal(signal.SIGINT)
        allow()

    monkeypatch.setattr(supervisor, "_allow_interruption", signalled_first)

    with pytest.raises(InterruptedSupervisor):
        supervisor.run({}, lambda stack: 0)

    assert supervisor.told == ["stopping", "stopped"]


def test_a_signal_while_the_directions_are_printed_is_a_proper_end(tmp_path, monkeypatch):
    def pressed(*_, **__):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("builtins.print", pressed)

    assert Idle(Home(tmp_path)).run({}, lambda stack: cli.stay("press Ctrl-C")) == 0
