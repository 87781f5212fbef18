"""The inside of the sandbox: a program that runs one call of one tool, and then ends.

It is started by its path in an empty environment, and takes what it may away from itself before it
loads the tool. On its standard input it gets what to do, on its standard output goes the result.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any, Final

_CLONE_NEWUSER, _CLONE_NEWPID = 0x10000000, 0x20000000
_CLONE_NEWNET, _CLONE_NEWIPC = 0x40000000, 0x08000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_MOST_FILES: Final = 64
_MOST_FILE_BYTES: Final = 64 * 1024**2
_NICE: Final = 10
_NOBODY: Final = 65534


def main() -> None:
    request = json.load(sys.stdin)
    out = _only_this_way_out()
    _give_up_rights()
    if _is_set_apart():
        _descend()  # into the namespaces, whose first process ends all others with itself
        _descend()  # which must not be the tool, since it would not hear of signals
    _bound(request)
    answer = json.dumps(_answer(request)).encode()
    with os.fdopen(out, "wb") as pipe:
        pipe.write(answer)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"output": _called(request)}
    except Exception as error:
        if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
            return {"error": f"it needs more memory than {request['memory_mb']} MB"}
        # That of a tool says it in words for models; it is told as such on the other side.
        return {"error": getattr(error, "detail", None) or f"{type(error).__name__}: {error}"}


def _called(request: dict[str, Any]) -> Any:
    sys.path[:] = request["path"]
    module, name = request["tool"].split(":")
    tool = getattr(_loaded(module, request["file"]), name)
    _be_nobody()
    # No process and no thread more than this one.
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    return tool.function.inner.call(request["arguments"])


def _loaded(module: str, file: str | None) -> ModuleType:
    """The tool's module; one of the operator's own lies in a file that is on no path."""
    spec = spec_from_file_location(module, file) if file else None
    if spec is None or spec.loader is None:
        return import_module(module)
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def _only_this_way_out() -> int:
    """Where the result goes. What the tool prints goes nowhere."""
    out = os.dup(sys.stdout.fileno())
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    return out


def _give_up_rights() -> None:
    parent = os.getppid()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _die_with_parent(parent)
    os.nice(_NICE)


def _is_set_apart() -> bool:
    """Whether it could leave the network and the other processes; not everywhere it may."""
    flags = _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWIPC
    if os.geteuid() != 0:
        flags |= _CLONE_NEWUSER
    return sys.platform == "linux" and bool(ctypes.CDLL(None).unshare(flags) == 0)


def _be_nobody() -> None:
    """Root is bound by few limits. Not before the tool is loaded, which others may not read."""
    if os.geteuid() != 0:
        return
    # In a container root may have lost the right to it, and with it most others.
    with suppress(PermissionError):
        os.chown(".", _NOBODY, _NOBODY)
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)


def _descend() -> None:
    """Go on as a child; this process ends as the child does."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        # Inside a new namespace the parent is nobody that has a number.
        _die_with_parent(os.getppid() or parent)
        return
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _die_with_parent(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() not in (parent, 0):
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _bound(request: dict[str, Any]) -> None:
    memory, seconds = request["memory_mb"] * 1024**2, request["cpu_seconds"]
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_NOFILE, _MOST_FILES),
        (resource.RLIMIT_FSIZE, _MOST_FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        bounded = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bounded, bounded))


if __name__ == "__main__":
    main()
