"""The command line of each process of Muster, in one place.

`python -m orchestrator.embedded.commands web|worker|control|flower [--option ...]` becomes that
process, for `make`, for containers and for the supervisor alike. Options after the name are handed
on to the program, so `worker -c 32` or `web --host 0.0.0.0` work. Needs nothing but the standard
library, since production installs leave the embedded servers out.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ENV_FILE = REPOSITORY / ".muster" / "env"
CELERY = (sys.executable, "-m", "celery", "-A", "orchestrator.celery")
# Workers learn of each other from rows, not from each other's chatter.
QUIET = ("--without-gossip", "--without-mingle", "-l", "INFO")


def web(*options: str) -> tuple[str, ...]:
    """Ends when its program cannot load, so that whoever started it sees that.

    Event streams end with it, and their readers ask the next one. Where a request comes from and
    how is Django's to judge.
    """
    return (
        *(sys.executable, "-m", "uvicorn", "--ws", "none", "--lifespan", "on"),
        *("--no-proxy-headers", "--no-server-header", "--no-access-log"),
        # Longer than proxies keep their connections, so that the proxy is the one to close them.
        *("--timeout-keep-alive", "75", "--timeout-graceful-shutdown", "5"),
        *options,
        "orchestrator.asgi:application",
    )


def worker(*options: str, name: str = "agents") -> tuple[str, ...]:
    """Runs the agents, and what is heavy when there is nothing else.

    Every worker of a machine needs a name of its own.
    """
    queues = "agents.high,agents,agents.low,tools.cpu"
    return (
        *CELERY,
        *("worker", "-P", "threads", "-c", "16", "-Q", queues, "-n", f"{name}@%h"),
        *QUIET,
        *options,
    )


def control(*options: str, name: str = "control") -> tuple[str, ...]:
    """Advances runs and sweeps, and never queues behind an agent."""
    return (
        *CELERY,
        *("worker", "-P", "threads", "-c", "4", "-Q", "control", "-n", f"{name}@%h"),
        *QUIET,
        *options,
    )


def flower(*options: str) -> tuple[str, ...]:
    """Needs FLOWER_BASIC_AUTH=user:password in its environment, where no process list shows it."""
    return (*CELERY, "flower", "--address=127.0.0.1", "--persistent=False", *options)


def manage(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, str(REPOSITORY / "manage.py"), *arguments)


def read_env_file(path: Path) -> dict[str, str]:
    """The `KEY=value` lines of a file that `make up` or `make demo` wrote; empty without one."""
    if not path.is_file():
        return {}
    lines = (line.partition("=") for line in path.read_text().splitlines() if "=" in line)
    return {key.strip(): value for key, _, value in lines}


def command_for(name: str, *options: str) -> tuple[str, ...]:
    if name == "web":
        return web(*options)
    if name == "worker":
        return worker(*options, name=f"agents-{os.getpid()}")
    if name == "control":
        return control(*options, name=f"control-{os.getpid()}")
    if name != "flower":
        sys.exit("Name one of: web, worker, control, flower.")
    if not os.environ.get("FLOWER_BASIC_AUTH"):
        sys.exit("Set FLOWER_BASIC_AUTH=user:password. Flower shows the tasks of all tenants.")
    return flower(*options)


def main(name: str = "", *options: str) -> None:
    os.environ.update(read_env_file(ENV_FILE) | os.environ)
    command = command_for(name, *options)
    os.chdir(REPOSITORY)
    os.execv(command[0], command)  # noqa: S606 - the process becomes the program, no shell between


if __name__ == "__main__":
    main(*sys.argv[1:])
