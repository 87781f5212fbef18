"""Tools that compute much, each call in a process of its own that ends whatever becomes of it."""

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import IO, Any, Final

from pydantic import JsonValue

from agents_app.core.cancellation import CallOverError, Cancellation, current_cancellation
from agents_app.core.errors import ToolFailedError
from agents_app.core.plugins import PLUGIN_PACKAGE
from agents_app.core.tools import Tool, ToolContext

MEMORY_MB: Final = 512
_CHILD: Final = Path(__file__).with_name("child.py")
_GLANCE_SECONDS: Final = 0.25
_PORTION_BYTES: Final = 64 * 1024
# Around the result there is its envelope, in which each character may take six bytes.
_ENVELOPE: Final = 6
# More at once would only take the processor away from each other, and from everybody else.
_places = threading.BoundedSemaphore(os.cpu_count() or 1)


def in_process(*, memory_mb: int = MEMORY_MB) -> Callable[[Tool], Tool]:
    """Have each call of a tool run in a process of its own, which ends at the tool's timeout.

    It has nothing of the worker's environment, an empty folder that goes with it, `memory_mb` of
    memory, and as much of the processor as one core gives within the timeout. It cannot take a
    ToolContext, and has to be a name in its module.
    """

    def decorate(inner: Tool) -> Tool:
        return replace(
            inner,
            is_heavy=True,
            is_instant=False,
            check=partial(_checked, inner),
            function=_InProcess(inner, memory_mb),
        )

    return decorate


def _checked(inner: Tool, arguments: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    """The arguments as they came: they are checked again where they are used."""
    inner.check(arguments)
    return arguments


@dataclass(frozen=True, slots=True)
class _InProcess:
    inner: Tool
    memory_mb: int

    def __call__(self, arguments: Mapping[str, Any], _: ToolContext | None) -> JsonValue:
        tool, cancellation = self.inner, current_cancellation()
        until = monotonic() + tool.timeout_seconds
        with _place(until, cancellation), _folder() as folder:
            request = {
                "tool": tool.origin,
                "file": _file_of(tool.origin.partition(":")[0]),
                "arguments": dict(arguments),
                "path": [entry or os.getcwd() for entry in sys.path],
                "memory_mb": self.memory_mb,
                "cpu_seconds": math.ceil(tool.timeout_seconds) + 1,
            }
            most = _ENVELOPE * tool.max_result_bytes + _PORTION_BYTES
            with _started(folder, request) as process:
                said = _heard(process, most, until, cancellation)
        return _result(tool.name, said, process.returncode)


def _file_of(module: str) -> str | None:
    """Where a module lies that another process could not import: one of the operator's folder."""
    if not module.startswith(f"{PLUGIN_PACKAGE}."):
        return None
    return sys.modules[module].__file__


@contextmanager
def _place(until: float, cancellation: Cancellation) -> Iterator[None]:
    """One of the places at the processor. Raises CallOverError if there is none in time."""
    while not _places.acquire(timeout=_GLANCE_SECONDS):
        _go_on(until, cancellation)
    try:
        yield
    finally:
        _places.release()


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="muster-", ignore_cleanup_errors=True)


@contextmanager
def _started(folder: str, request: Mapping[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile(dir=folder) as asked:
        asked.write(json.dumps(request).encode())
        asked.seek(0)
        process = subprocess.Popen(  # noqa: S603 - a program of ours
            [sys.executable, "-I", str(_CHILD)],
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"},
            start_new_session=True,
        )
    try:
        yield process
        # Whoever has said all has nothing left to do.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GLANCE_SECONDS)
    finally:
        # All that it may have started too, for as long as that has not left its session.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _pipe(process).close()


def _heard(
    process: subprocess.Popen[bytes], most: int, until: float, cancellation: Cancellation
) -> bytes:
    """All that it says, until it ends or its time does."""
    said, pipe = bytearray(), _pipe(process)
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if not selector.select(_GLANCE_SECONDS):
                _go_on(until, cancellation)
                continue
            portion = os.read(pipe.fileno(), _PORTION_BYTES)
            said += portion
            # More than a result may have is no result, and need not be heard to its end.
            if not portion or len(said) > most:
                return bytes(said)


def _go_on(until: float, cancellation: Cancellation) -> None:
    if cancellation.is_set or monotonic() >= until:
        raise CallOverError


def _pipe(process: subprocess.Popen[bytes]) -> IO[bytes]:
    pipe = process.stdout
    if pipe is None:
        raise RuntimeError("it was started without a pipe")
    return pipe


def _result(name: str, said: bytes, code: int) -> JsonValue:
    try:
        answer = json.loads(said)
    except ValueError:
        raise ToolFailedError(name, f"its process ended without a result ({_end(code)})") from None
    if "error" in answer:
        raise ToolFailedError(name, str(answer["error"]))
    output: JsonValue = answer["output"]
    return output


def _end(code: int) -> str:
    """How a process ended; one inside the namespaces tells of a signal by its low byte."""
    number = -code if code < 0 else 256 - code
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"exit code {code}"
