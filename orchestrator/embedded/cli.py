"""`python -m orchestrator.embedded up|down|status|demo|run-servers|with-servers`."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

from orchestrator.embedded import commands
from orchestrator.embedded.background import down, up
from orchestrator.embedded.demo import directions, load_demo_tenant, run_blueprint
from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.processes import birth, mark
from orchestrator.embedded.report import Reporter
from orchestrator.embedded.stack import Stack
from orchestrator.embedded.state import Home, is_serving, read_state, supervisor_pid
from orchestrator.embedded.supervisor import InterruptedSupervisor, Supervisor
from orchestrator.embedded.testing import test_servers


def run_servers(home: Home) -> int:
    """Serve in the foreground until a signal comes."""
    return Supervisor(home, reporter=Reporter()).run(os.environ, lambda _: stay())


def demo(home: Home, *, once: bool) -> int:
    reporter = Reporter()

    def show(stack: Stack) -> int:
        environment = {**os.environ, **stack.environment, **mark(home.path)}
        with reporter.step("demo tenant"):
            tenant = load_demo_tenant(environment)
        outcome = run_blueprint(tenant, environment=environment, as_json=once)
        if once:
            return outcome
        login = stack.environment["FLOWER_BASIC_AUTH"]
        return stay(directions(tenant, addresses=stack.addresses, flower_login=login))

    return Supervisor(home, reporter=reporter).run(os.environ, show)


def stay(directions: str = "") -> int:
    """Until a signal comes, which is the proper end as soon as the directions are on their way."""
    with contextlib.suppress(InterruptedSupervisor):
        if directions:
            print(directions, flush=True)
        while True:
            signal.pause()
    return 0


def bring_up(home: Home) -> int:
    state = up(home)
    for name, address in state.addresses.items():
        print(f"{name:<8} {address}")
    return 0


def bring_down(home: Home) -> int:
    print("Stopped." if down(home) else "Nothing was running.")
    return 0


def status(home: Home) -> int:
    """Exit code 0 while everything serves."""
    state = read_state(home)
    if supervisor_pid(home) is None:
        print("Muster does not run from here. Start it with `make up`.")
        return 1
    for name, record in state.processes.items():
        alive = birth(int(record["pid"])) == record["birth"]
        print(f"{name:<10} {'runs' if alive else 'ended'}  process {record['pid']}")
    for name, address in state.addresses.items():
        print(f"{name:<10} {address}")
    return 0 if is_serving(home) else 1


def with_servers(command: list[str]) -> int:
    with test_servers() as servers:
        environment = {**os.environ, **servers.environment}
        return subprocess.run([sys.executable, *command], env=environment, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.embedded")
    parser.add_argument("--home", type=Path, default=commands.REPOSITORY / ".muster")
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("up", "down", "status", "run-servers"):
        actions.add_parser(name)
    actions.add_parser("demo").add_argument("--once", action="store_true")
    on_servers = actions.add_parser("with-servers", help="run Python on throw-away servers")
    on_servers.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.action == "with-servers":
        return with_servers(arguments.command)
    home = Home(arguments.home.resolve())
    if arguments.action == "demo":
        return demo(home, once=arguments.once)
    simple = {"up": bring_up, "down": bring_down, "status": status, "run-servers": run_servers}
    return simple[arguments.action](home)


def main_in_sentences() -> int:
    """What can go wrong is told in a sentence; a traceback is for what we did not foresee."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return main()
    except (InterruptedSupervisor, KeyboardInterrupt):
        return 130
    except (EmbeddedError, TimeoutError) as error:
        print(error, file=sys.stderr)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"The disk is full: {error.filename or error}. Free some space.", file=sys.stderr)
    return 1
