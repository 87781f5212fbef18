"""Worker processes. Each lives once: its replacement has a name of its own, and a new fate."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Final, Literal

from orchestrator.chaos.schedule import Size
from orchestrator.embedded import commands

Role = Literal["agents", "control"]
AGENT_THREADS: Final = 8
# Chances of dying at each passage, high enough that every point is hit within a storm.
POINTS: Final[Mapping[Role, Mapping[str, float]]] = {
    "agents": {
        "after_claim": 0.05,
        "before_send": 0.06,
        "after_answer": 0.06,
        "before_tools": 0.06,
        "after_tool": 0.06,
        "before_publish": 0.05,
    },
    "control": {"in_advance": 0.06, "in_sweep": 0.25},
}
CONTROL_WORKERS: Final = 2
_LOOK_SECONDS: Final = 0.05
_STOP_SECONDS: Final = 20.0
# Clocks are wrong by longer than a storm takes, so that what was told the time by them shows.
_CLOCKS: Final = (-3600.0, -1200.0, 0.0, 0.0, 1200.0, 3600.0)
_CLOCK_FOLDER: Final = Path(__file__).parent / "clock"
_CRASHED: Final = re.compile(rb"^crash point (\w+)$", re.MULTILINE)


@dataclass(slots=True, kw_only=True)
class Member:
    name: str
    role: Role
    process: subprocess.Popen[bytes]
    log: Path
    # Why it is about to end, and when it was made to.
    cause: str = ""
    ended_at: float = 0.0
    frozen: list[tuple[float, float]] = field(default_factory=list)
    # Seconds by which the clock of its host is wrong.
    wrong_by: float = 0.0

    @property
    def worker(self) -> str:
        """As rows name it."""
        return f"{self.name}@{os.uname().nodename}"

    def send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)


class Crew:
    """Keeps so many workers of each role alive, whatever they die of."""

    def __init__(
        self, *, home: Path, environment: Mapping[str, str], rng: Random, size: Size
    ) -> None:
        self._home = home
        self._environment = environment
        self._rng = rng
        self._wanted: dict[Role, int] = {"agents": size.workers, "control": CONTROL_WORKERS}
        self._numbers = count(1)
        self._eagerness = size.eagerness
        self._is_calm = False
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="crew", daemon=True)
        self.living: list[Member] = []
        self.dead: list[Member] = []

    def start(self) -> None:
        for role, wanted in self._wanted.items():
            for _ in range(wanted):
                self._hire(role)
        self._thread.start()

    def calm(self) -> None:
        """Whoever is hired from now on has nothing to fear."""
        self._is_calm = True

    def stop(self) -> None:
        self._closing.set()
        self._thread.join()
        for member in self.living:
            member.send(signal.SIGCONT)
            member.send(signal.SIGTERM)
        for member in self.living:
            try:
                member.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()

    @property
    def everyone(self) -> list[Member]:
        return [*self.living, *self.dead]

    @property
    def deaths(self) -> Counter[str]:
        """How often for which cause: `killed`, a crash point, or what was not foreseen."""
        return Counter(member.cause for member in self.dead if member.cause != "dismissed")

    # Faults

    def kill(self, role: Role, pick: float) -> None:
        member = self._choose(role, pick)
        if member:
            member.cause, member.ended_at = "killed", time.time()
            member.send(signal.SIGKILL)

    def freeze(self, pick: float, seconds: float) -> None:
        """Stand still for longer than a lease, and go on as if nothing had been."""
        member = self._choose("agents", pick)
        if member is None:
            return
        began = time.time()
        member.send(signal.SIGSTOP)
        time.sleep(seconds)
        member.frozen.append((began, time.time()))
        member.send(signal.SIGCONT)

    def dismiss(self, pick: float) -> None:
        """It ends in order: what it cannot finish in time it hands over."""
        member = self._choose("agents", pick)
        if member:
            member.cause = "dismissed"
            member.send(signal.SIGTERM)

    def dismiss_control(self, seconds: float) -> None:
        """Nobody advances and nobody sweeps for a while."""
        self._wanted["control"] = 0
        with self._guard:
            leaving = [member for member in self.living if member.role == "control"]
        for member in leaving:
            member.cause, member.ended_at = "dismissed", time.time()
            member.send(signal.SIGTERM)
        time.sleep(seconds)
        self._wanted["control"] = CONTROL_WORKERS

    def _choose(self, role: Role, pick: float) -> Member | None:
        with self._guard:
            able = [m for m in self.living if m.role == role and not m.cause]
        return able[int(pick * len(able))] if able else None

    def _watch(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            with self._guard:
                ended = [m for m in self.living if m.process.poll() is not None]
                self.living = [m for m in self.living if m not in ended]
            for member in ended:
                self._bury(member)
            for role, wanted in self._wanted.items():
                missing = wanted - sum(member.role == role for member in self.living)
                for _ in range(missing):
                    self._hire(role)

    def _bury(self, member: Member) -> None:
        member.ended_at = member.ended_at or time.time()
        crashed = _CRASHED.search(member.log.read_bytes()[-2000:])
        if crashed:
            member.cause = crashed[1].decode()
        elif not member.cause:
            member.cause = f"exit code {member.process.returncode}"
        self.dead.append(member)

    def _hire(self, role: Role) -> None:
        name = f"{role}{next(self._numbers)}"
        fate = "" if self._is_calm else self._fate(role)
        points = self._points(role, fate) if fate else ""
        command = commands.control if role == "control" else commands.worker
        options = () if role == "control" else ("-c", str(AGENT_THREADS))
        log = self._home / "logs" / f"{name}.log"
        wrong_by = self._rng.choice(_CLOCKS)
        with log.open("wb") as out:
            process = subprocess.Popen(
                command(*options, name=name),
                cwd=commands.REPOSITORY,
                env={**self._environment, **_clock(wrong_by), "MUSTER_CRASH_POINTS": points},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the storm, which ends them in order.
                start_new_session=True,
            )
        member = Member(name=name, role=role, process=process, log=log, wrong_by=wrong_by)
        with self._guard:
            self.living.append(member)

    def _fate(self, role: Role) -> str:
        """The point that was hit least so far. Every third worker is to die by other hands."""
        if self._rng.random() < 1 / 3:
            return ""
        deaths = self.deaths
        return min(POINTS[role], key=lambda point: (deaths[point], self._rng.random()))

    def _points(self, role: Role, fate: str) -> str:
        chance = min(POINTS[role][fate] * self._eagerness, 1.0)
        return f"{fate}={chance},seed={self._rng.random()}"


def _clock(wrong_by: float) -> dict[str, str]:
    return {"PYTHONPATH": str(_CLOCK_FOLDER), "MUSTER_CLOCK_SECONDS": str(wrong_by)}
