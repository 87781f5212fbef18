"""Tools that do in their process what no tool should."""

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from agents_app.core.errors import ToolFailedError
from agents_app.core.tools import tool
from agents_app.sandbox.process import in_process


@in_process()
@tool()
def behave(words: list[str]) -> dict[str, Any]:
    """Give the words back."""
    sys.stdout.write("to nobody")
    return {"words": words}


@in_process()
@tool()
def refuse() -> str:
    """Say why not."""
    raise ToolFailedError("refuse", "I would rather not")


@in_process(memory_mb=256)
@tool()
def eat_memory() -> int:
    """Take all the memory."""
    return len(bytearray(4 * 1024**3))


@in_process()
@tool(timeout_seconds=1)
def never_end() -> None:
    """Compute for ever, deaf to signals."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU):
        signal.signal(number, signal.SIG_IGN)
    while True:
        pass


@in_process()
@tool()
def flood() -> str:
    """Give 100 MB."""
    return "x" * 100 * 1024**2


@in_process()
@tool()
def kill_itself() -> None:
    """Die."""
    os.kill(os.getpid(), signal.SIGKILL)


@in_process()
@tool()
def leave() -> None:
    """End the process as if all were well."""
    os._exit(0)


@in_process()
@tool(timeout_seconds=5)
def multiply() -> None:
    """Fork again and again, each in a session of its own."""
    for _ in range(8):
        if os.fork() == 0:
            os.setsid()
    time.sleep(60)


@in_process()
@tool(timeout_seconds=5)
def write_much() -> None:
    """Fill the disk."""
    with open("much", "wb") as file:
        while True:
            file.write(b"x" * 1024**2)


@in_process()
@tool()
def look_around(port: int) -> dict[str, Any]:
    """Tell what can be seen from inside."""
    with socket.socket() as probe:
        network = probe.connect_ex(("127.0.0.1", port))
    return {
        "environment": sorted(os.environ),
        "files": sorted(os.listdir("/proc/self/fd")),
        "folder": os.getcwd(),
        "inside": os.listdir("."),
        "network": network,
        "pid": os.getpid(),
        "privileges": "NoNewPrivs:\t1" in Path("/proc/self/status").read_text(),
        "user": os.getuid(),
    }
