"""Starts everything, starts again what dies, and stops everything in reverse order."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

from orchestrator.embedded import processes
from orchestrator.embedded.env import load_secrets, write_env_file
from orchestrator.embedded.keeper import Keeper
from orchestrator.embedded.leftovers import end_leftovers, leftovers
from orchestrator.embedded.migrations import migrate, stamp_of
from orchestrator.embedded.ports import Claims
from orchestrator.embedded.processes import Service
from orchestrator.embedded.report import Reporter
from orchestrator.embedded.stack import Stack, build_stack
from orchestrator.embedded.state import Home, State, read_state, supervising, write_state

# A signal so soon after the first is the same wish; a later one asks for a hard stop.
SAME_WISH_SECONDS = 1.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptedSupervisor(BaseException):
    """The first Ctrl-C or TERM: what goes on is given up, and everything stops in order."""


class Supervisor:
    """One running Muster: one at a time for each `.muster` directory."""

    def __init__(self, home: Home, *, reporter: Reporter) -> None:
        self._home = home
        self._reporter = reporter
        self._tiers: list[list[Keeper]] = []
        self._claims = Claims()
        self._state = State()
        self._state_lock = threading.Lock()
        self._stopping_since: float | None = None
        self._may_interrupt = False

    def run(self, inherited: Mapping[str, str], body: Callable[[Stack], int]) -> int:
        """What `body` returns. Everything serves while it runs, and nothing is left after it."""
        self._home.prepare()
        with supervising(self._home), self._signals():
            # A signal raises at most once, and only between these lines, wherever in them it comes:
            # so nothing keeps `_stop` from running, and nothing breaks it off.
            try:
                try:
                    self._allow_interruption()
                    return body(self._start(inherited))
                finally:
                    self._may_interrupt = False
            finally:
                self._stop()

    def _allow_interruption(self) -> None:
        self._may_interrupt = True
        if self._stopping_since is not None:
            raise InterruptedSupervisor

    def _start(self, inherited: Mapping[str, str]) -> Stack:
        end_leftovers(self._home)
        last_ports = read_state(self._home).ports
        stack = build_stack(
            self._home,
            secrets=load_secrets(self._home),
            inherited=inherited,
            last_ports=last_ports,
            claims=self._claims,
        )
        self._record(ports=stack.ports, addresses=stack.addresses)
        write_env_file(self._home, stack.environment)
        with self._reporter.group(), ThreadPoolExecutor(max_workers=16) as threads:
            try:
                self._start_in_order(stack, threads=threads)
            except BaseException:
                self._cancel()
                raise
        self._record(served_by=processes.birth(os.getpid()))
        return stack

    def _start_in_order(self, stack: Stack, *, threads: ThreadPoolExecutor) -> None:
        model, servers, programs = map(self._keepers, (stack.model, stack.servers, stack.processes))
        self._tiers = [model + servers, programs]
        loading = [threads.submit(self._start_one, keeper) for keeper in model]
        list(threads.map(self._start_one, servers))
        with self._reporter.step("database migrations"):
            environment = {**os.environ, **stack.environment, **processes.mark(self._home.path)}
            migrate(environment=environment, stamp=stamp_of(stack.postgres))
        list(threads.map(self._start_one, programs))
        for future in loading:
            future.result()

    def _keepers(self, services: Sequence[Service]) -> list[Keeper]:
        return [
            Keeper(
                service,
                home=self._home.path,
                say=self._reporter.say,
                started=self._record_process,
            )
            for service in services
        ]

    def _cancel(self) -> None:
        for keeper in itertools.chain(*self._tiers):
            keeper.cancel()

    def _start_one(self, keeper: Keeper) -> None:
        with self._reporter.step(keeper.service.name):
            keeper.start()

    def _stop(self) -> None:
        self._stopping_since = self._stopping_since or time.monotonic()
        self._record(served_by="")
        if self._tiers:
            self._reporter.say("Stopping.")
        for tier in reversed(self._tiers):
            with ThreadPoolExecutor(max_workers=max(1, len(tier))) as threads:
                list(threads.map(Keeper.stop, tier))
        # Short programs of ours, if a signal came while one was being started.
        processes.end_processes(leftovers(self._home))
        self._claims.release()
        self._record(processes={}, addresses={})
        # Addresses that no longer answer would only mislead the next `manage.py`.
        self._home.env_file.unlink(missing_ok=True)

    def _record_process(self, name: str, pid: int) -> None:
        record: dict[str, str | int] = {"pid": pid, "birth": processes.birth(pid) or ""}
        with self._state_lock:
            known = {**self._state.processes, name: record}
            self._store(dataclasses.replace(self._state, processes=known))

    def _record(self, **changes: Any) -> None:
        with self._state_lock:
            self._store(dataclasses.replace(self._state, **changes))

    def _store(self, state: State) -> None:
        self._state = state
        write_state(self._home, state)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        for name in STOP_SIGNALS:
            signal.signal(name, self._interrupt)
        try:
            yield
        finally:
            # Nothing is left to stop; what `make` passes on late must not change the exit code.
            for name in STOP_SIGNALS:
                signal.signal(name, signal.SIG_IGN)

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
            if self._may_interrupt:
                raise InterruptedSupervisor
            return
        # `make` and `timeout` pass on a signal that has reached us already.
        if time.monotonic() - self._stopping_since > SAME_WISH_SECONDS:
            self._stop_hard()

    def _stop_hard(self) -> None:
        self._cancel()
        # Twice, for what a keeper was starting just now.
        for _ in range(2):
            processes.end_processes(leftovers(self._home), patience_seconds=0)
        os._exit(130)
