"""A storm over one hard budget and one set of limits, from its first process to its verdict."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from costs.models import Budget
from orchestrator.chaos import schedule
from orchestrator.chaos.caller import DOUBLED
from orchestrator.chaos.check_money import CHECKS, denials, longest_gap, most_above, most_at_once
from orchestrator.chaos.evidence import places_taken
from orchestrator.chaos.money_rows import MoneyEvidence, Row, Span, money_now, money_rows
from orchestrator.chaos.money_scene import Size, prepare
from orchestrator.chaos.schedule import Fault
from orchestrator.chaos.servers import Servers
from orchestrator.chaos.verdict import told
from orchestrator.embedded import commands
from orchestrator.models import Run
from orchestrator.services.control import RunStateError, resume_run
from tenants.models import Tenant
from tenants.scope import tenant_scope

Say = Callable[[str], None]
LEASE_SECONDS: Final = 3
_FREEZE_SECONDS: Final = LEASE_SECONDS + 2.0
_LOOK_SECONDS: Final = 0.2
_COPY_SECONDS: Final = 1.5
_PATIENCE_SECONDS: Final = 60.0
_SHORT_OF: Final = 0.9
_HERE: Final = "SELECT count(*) AS n FROM worker_process"
_CALLS: Final = "SELECT count(*) AS n FROM llm_call"
_STATE: Final = "SELECT status, stop_wanted, finished_at IS NOT NULL AS is_over FROM run"


@dataclass(slots=True)
class MoneyStorm:
    seed: int
    size: Size
    home: Path
    servers: Servers
    say: Say
    struck: Counter[str] = field(default_factory=Counter, init=False)
    # How often the budget was raised after it had stopped the run, and before it could.
    exhausted: int = field(default=0, init=False)
    raised: int = field(default=0, init=False)
    _samples: list[Row] = field(default_factory=list, init=False)
    _excused: list[Span] = field(default_factory=list, init=False)
    _callers: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1), init=False)
    _over: threading.Event = field(default_factory=threading.Event, init=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False)
    _tenant: Tenant = field(init=False)
    _run: Run = field(init=False)

    def rage(self) -> dict[str, Any]:
        with ExitStack() as stack:
            stack.enter_context(self._process("control", commands.control(name="control")))
            stack.callback(self._dismiss)
            for _ in range(self.size.processes):
                self._hire()
            self._tenant, self._run = prepare(self.size, seed=self.seed)
            self._until(lambda: self._one(_HERE)["n"] >= self.size.processes, "callers are there")
            self._until(lambda: self._one(_CALLS)["n"] >= self.size.rate, "calls are made")
            began = time.time()
            self._unleash()
            load = began, time.time()
            self.say("the storm is over; waiting for the budget to be used up")
            self._until(self._is_out_of_money, "the run has ended")
            self._excused.append((load[1], time.time()))
            self._until(lambda: not self._places_taken(), "places are given back")
        self._look()
        return self._verdict(load)

    # Processes

    def _hire(self) -> None:
        name = f"caller{next(self._numbers)}"
        command = (sys.executable, "-m", "orchestrator.chaos.caller", name)
        process = self._started(name, (*command, str(self.size.threads), f"{self.seed} {name}"))
        with self._guard:
            self._callers.append(process)

    @contextmanager
    def _process(self, name: str, command: tuple[str, ...]) -> Iterator[None]:
        process = self._started(name, command)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def _started(self, name: str, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
        with (self.home / "logs" / f"{name}.log").open("wb") as out:
            return subprocess.Popen(
                command,
                cwd=commands.REPOSITORY,
                env={
                    **self.servers.environment,
                    "MUSTER_LEASE_SECONDS": str(LEASE_SECONDS),
                    "MUSTER_ENGINE_POOL_SIZE": "6",
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _dismiss(self) -> None:
        for process in self._callers:
            process.kill()
            process.wait()

    # Faults

    def _unleash(self) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(max_workers=8) as pool:
            working = [pool.submit(self._watch), pool.submit(self._copy_now_and_then)]
            try:
                for fault in schedule.faults(Random(f"{self.seed} faults"), self.size):
                    self._over.wait(max(0.0, began + fault.at - time.monotonic()))
                    self.say(f"{fault.at:6.1f} s  {fault.kind}")
                    working.append(pool.submit(self._strike, fault))
                self._over.wait(max(0.0, began + self.size.seconds - time.monotonic()))
            finally:
                self._over.set()
        for work in working:
            work.result()

    def _strike(self, fault: Fault) -> None:
        match fault.kind:
            case "wipe":
                self.servers.wipe()
            case "stale":
                since = time.time()
                self.servers.restart_stale()
                self._excused.append((since, time.time()))
            case _:
                self._hit(fault)
        self.struck[fault.kind] += 1

    def _hit(self, fault: Fault) -> None:
        with self._guard:
            process = self._callers.pop(int(fault.pick * len(self._callers)))
        if fault.kind == "kill":
            process.kill()
            process.wait()
            self._hire()
            return
        process.send_signal(signal.SIGSTOP)
        time.sleep(_FREEZE_SECONDS)
        process.send_signal(signal.SIGCONT)
        with self._guard:
            self._callers.append(process)

    def _copy_now_and_then(self) -> None:
        while not self._over.wait(_COPY_SECONDS):
            self.servers.keep_copy()

    # What is seen, and done for want of money

    def _watch(self) -> None:
        """Raise the budget: twice just before it stops the run, then once it has done so."""
        stopped_at = 0.0
        while not self._over.wait(_LOOK_SECONDS):
            state, is_short = self._one(_STATE), self._look()
            if state["stop_wanted"] or state["is_over"]:
                stopped_at = stopped_at or time.time() - 2 * _LOOK_SECONDS
            if state["status"] == "budget_exceeded":
                self.exhausted += 1
                self._raise()
                self._excused.append((stopped_at, time.time()))
                stopped_at = 0.0
            elif is_short and not stopped_at and self.raised < 2 * (self.exhausted + 1):
                self.raised += 1
                self._raise()
        if stopped_at:
            self._excused.append((stopped_at, time.time()))

    def _is_out_of_money(self) -> bool:
        """Now that nobody raises it any more."""
        self._look()
        return bool(self._one(_STATE)["is_over"])

    def _raise(self) -> None:
        with tenant_scope(self._tenant.id):
            budget = Budget.objects.get()
            budget.limit_nano += self.size.raise_nano
            budget.save()
            # It goes on, unless it does anyway.
            with suppress(RunStateError):
                resume_run(Run.objects.get(id=self._run.id))

    def _look(self) -> bool:
        """Whether the budget is short by now."""
        with self._connected() as connection:
            seen = money_now(connection)
        if seen is None:
            return False
        self._samples.append(seen)
        return bool(seen["spent_nano"] + seen["held_nano"] > _SHORT_OF * seen["limit_nano"])

    def _one(self, query: Any) -> Row:
        with self._connected() as connection:
            return connection.execute(query).fetchone() or {}

    def _connected(self) -> psycopg.Connection[Row]:
        return psycopg.connect(self.servers.superuser_url, row_factory=dict_row)

    def _places_taken(self) -> int:
        return places_taken(self.servers.redis())

    def _until(self, is_so: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + _PATIENCE_SECONDS
        while not is_so():
            if time.monotonic() > until:
                # The verdict tells what is wrong with that.
                self.say(f"after {_PATIENCE_SECONDS:.0f} s it is still not so that {what}")
                return
            time.sleep(_LOOK_SECONDS)

    def _verdict(self, load: Span) -> dict[str, Any]:
        logs = sorted((self.home / "logs").glob("c*.log"))
        evidence = MoneyEvidence(
            buckets=self.size.buckets,
            places=self.size.places,
            samples=self._samples,
            load=load,
            excused=self._excused,
            places_taken=self._places_taken(),
            logs=logs,
            **money_rows(self.servers.superuser_url),
        )
        invariants = {check.__name__: told(check, evidence) for check in CHECKS}
        last = self._samples[-1]
        return {
            "seed": self.seed,
            "callers": [self.size.processes, self.size.threads],
            "seconds": round(load[1] - load[0], 1),
            "calls": Counter(call["status"] for call in evidence.calls),
            "told_twice": sum(log.read_text(errors="replace").count(DOUBLED) for log in logs),
            "struck": self.struck,
            "exhausted": self.exhausted,
            "raised_in_time": self.raised,
            "samples": len(self._samples),
            "spent_nano": last["spent_nano"],
            "overspent_nano": max(seen["overrun_nano"] for seen in self._samples),
            "most_at_once": most_at_once(evidence),
            "below_bound": [round(-most_above(evidence, bucket), 1) for bucket in evidence.buckets],
            "longest_gap_s": round(longest_gap(evidence), 1),
            "longest_denial_s": {
                by: round(max(seconds for _, seconds in denials(evidence, by=by)), 1)
                for by in ("budget", "rate_limited")
            },
            "invariants": invariants,
            "ok": all(invariant["ok"] for invariant in invariants.values()),
        }
