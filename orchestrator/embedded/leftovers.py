"""Ends what an earlier supervisor left behind when it was killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]

from orchestrator.embedded.processes import birth, end_processes, marked_processes, processes_in
from orchestrator.embedded.state import Home, read_state


def end_leftovers(home: Home) -> list[str]:
    """End every process that belongs to `home`, and name them. Call it while holding the lock."""
    found = leftovers(home)
    names = sorted(name_of(process) for process in found)
    end_processes(found)
    return names


def leftovers(home: Home) -> set[psutil.Process]:
    # Three nets: a program's mark, PostgreSQL's children by where they work (they overwrite their
    # environment), and the record, for programs of another user whose environment is closed to us.
    return {
        *marked_processes(home.path),
        *processes_in(home.path / "postgres" / "data"),
        *recorded_processes(home),
    }


def recorded_processes(home: Home) -> Iterator[psutil.Process]:
    for record in read_state(home).processes.values():
        pid = int(record["pid"])
        if birth(pid) == record["birth"]:
            with contextlib.suppress(psutil.NoSuchProcess):
                yield psutil.Process(pid)


def name_of(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return "a process"
