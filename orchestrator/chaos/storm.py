"""One storm from its first process to its verdict."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from redis.exceptions import RedisError

from orchestrator.chaos import schedule
from orchestrator.chaos.crew import POINTS, Crew
from orchestrator.chaos.evidence import Evidence, as_json, leftovers, places_taken, rows
from orchestrator.chaos.mail import QUEUES, Mail, send_stray
from orchestrator.chaos.noise import Noise
from orchestrator.chaos.people import People
from orchestrator.chaos.provider import entries
from orchestrator.chaos.schedule import Deed, Fault, Size
from orchestrator.chaos.servers import Servers
from orchestrator.chaos.shapes import flows
from orchestrator.chaos.traffic import Traffic
from orchestrator.chaos.verdict import judge, recovery_p95_seconds
from orchestrator.embedded.commands import REPOSITORY
from orchestrator.embedded.model import answers

Say = Callable[[str], None]
# Beyond the lease and the grace of a renewal that was just made.
_FREEZE_SECONDS: Final = 7.0
_NO_CONTROL_SECONDS: Final = 4.0
_PATIENCE_SECONDS: Final = 120.0
_COPY_SECONDS: Final = 3.0
_NOISE_SECONDS: Final = 0.5


@dataclass(slots=True)
class Storm:
    seed: int
    size: Size
    home: Path
    servers: Servers
    say: Say
    struck: list[str] = field(default_factory=list, init=False)
    noise: int = field(default=0, init=False)
    _began: float = field(default_factory=time.time, init=False)
    _over: threading.Event = field(default_factory=threading.Event, init=False)

    def rage(self) -> dict[str, Any]:
        flowing = flows(self._rng("flows"), self.size.flows)
        traffic = Traffic(self._rng("traffic"), flowing)
        traffic.prepare()
        people = People(traffic)
        mail = Mail(self.servers.redis())
        crew = Crew(
            home=self.home,
            environment=self.servers.environment,
            rng=self._rng("crew"),
            size=self.size,
        )
        with self._provider():
            crew.start()
            people.start()
            try:
                self._unleash(traffic, crew, mail)
                stuck = self._calm(traffic, crew)
            finally:
                people.stop()
                crew.stop()
        evidence = self._evidence(traffic, people, crew)
        (self.home / "evidence.json").write_text(as_json(evidence))
        return self._verdict(evidence, crew, mail, stuck=len(stuck))

    def _rng(self, purpose: str) -> Random:
        """Each purpose has dice of its own, so that none disturbs the others."""
        return Random(f"{self.seed} {purpose}")

    @contextmanager
    def _provider(self) -> Iterator[None]:
        port = self.servers.provider_port
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "orchestrator.chaos.provider"),
                *("--port", str(port), "--log", str(self._log)),
            ],
            cwd=REPOSITORY,
            env=self.servers.environment,
            start_new_session=True,
        )
        try:
            while not answers(f"http://127.0.0.1:{port}/"):
                if process.poll() is not None:
                    raise RuntimeError("the provider did not start")
                time.sleep(0.05)
            yield
        finally:
            process.kill()
            process.wait()

    @property
    def _log(self) -> Path:
        return self.home / "provider.jsonl"

    def _unleash(self, traffic: Traffic, crew: Crew, mail: Mail) -> None:
        faults = schedule.faults(self._rng("faults"), self.size)
        deeds = schedule.deeds(self._rng("deeds"), self.size)
        began = time.monotonic()
        # Slow ones, such as a freeze, do not hold up the others.
        with ThreadPoolExecutor(max_workers=16) as pool:
            people = pool.submit(self._live, traffic, deeds, began)
            working = [pool.submit(self._copy_now_and_then), pool.submit(self._make_noise)]
            try:
                for fault in faults:
                    self._is_over_at(began + fault.at)
                    self.say(f"{fault.at:6.1f} s  {fault.kind}")
                    working.append(pool.submit(self._strike, fault, crew, mail))
                people.result()
            finally:
                self._over.set()
        for work in working:
            work.result()

    def _live(self, traffic: Traffic, deeds: Sequence[Deed], began: float) -> None:
        for deed in deeds:
            if self._is_over_at(began + deed.at):
                return
            traffic.do(deed)

    def _copy_now_and_then(self) -> None:
        while not self._over.wait(_COPY_SECONDS):
            self.servers.keep_copy()

    def _make_noise(self) -> None:
        noise = Noise(self.servers.environment["REDIS_URL"], self._rng("noise"))
        while not self._over.wait(_NOISE_SECONDS):
            noise.make()
        noise.close()
        self.noise = noise.sent

    def _is_over_at(self, moment: float) -> bool:
        """Wait until then, or until the storm is broken off."""
        return self._over.wait(max(moment - time.monotonic(), 0))

    def _strike(self, fault: Fault, crew: Crew, mail: Mail) -> None:
        try:
            _STRIKES[fault.kind](self, fault, crew, mail)
        except RedisError as error:
            # Another fault has just restarted it.
            self.say(f"{fault.kind} found nothing to hit: {type(error).__name__}")
        else:
            self.struck.append(fault.kind)

    def _calm(self, traffic: Traffic, crew: Crew) -> list[Any]:
        """No more faults: whatever is left has to end, also what people take up again."""
        crew.calm()
        self.say("the storm is over; waiting for the runs to end")
        traffic.wait_for_all(seconds=_PATIENCE_SECONDS)
        for number in range(0, self.size.runs, 7):
            traffic.act(number, "retry")
        stuck = traffic.wait_for_all(seconds=_PATIENCE_SECONDS)
        self._drain()
        return stuck

    def _drain(self) -> None:
        """Let the workers take the last doubled messages, and leases of the dead run out."""
        client = self.servers.redis()
        until = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < until:
            if not any(client.llen(queue) for queue in QUEUES) and not places_taken(client):
                return
            time.sleep(0.1)

    def _evidence(self, traffic: Traffic, people: People, crew: Crew) -> Evidence:
        found = rows(self.servers.superuser_url)
        return Evidence(
            started=[*traffic.runs.values(), *traffic.called(found["runs"].values())],
            leaf=traffic.flows[0],
            accepted={
                (traffic.runs[number].id, what): count
                for (number, what), count in traffic.accepted.items()
            },
            decided=people.accepted,
            cancelled_batches=traffic.cancelled_batches,
            span=(self._began, time.time()),
            log=entries(self._log),
            members={member.worker: member for member in crew.everyone},
            outages=self.servers.outages,
            leftovers=leftovers(self.servers.redis()),
            places_taken=places_taken(self.servers.redis()),
            **found,
        )

    def _verdict(self, evidence: Evidence, crew: Crew, mail: Mail, *, stuck: int) -> dict[str, Any]:
        deaths = crew.deaths
        points = {point: deaths[point] for of_role in POINTS.values() for point in of_role}
        struck = Counter(self.struck)
        invariants = judge(evidence)
        short = [point for point, hits in points.items() if hits < self.size.crashes]
        invariants["every_crash_point_was_hit"] = {
            "ok": not short,
            "detail": ", ".join(f"{point} {hits}" for point, hits in points.items()),
        }
        return {
            "seed": self.seed,
            "runs": len(evidence.runs),
            "kills": deaths["killed"] + sum(points.values()),
            "redis_wipes": struck["wipe"],
            "redis_stale_restarts": struck["stale"],
            "postgres_restarts": len(self.servers.outages),
            "freezes": sum(len(member.frozen) for member in crew.everyone),
            "duplicates": mail.doubled,
            "drops": mail.dropped,
            "noise": self.noise,
            "wrong_clocks": sum(member.wrong_by != 0 for member in crew.everyone),
            "batches": len(evidence.batches),
            "approvals": Counter(approval["status"] for approval in evidence.approvals),
            "crash_points": points,
            "calls": sum(map(len, evidence.calls.values())),
            "in_doubt": sum(
                call["status"] == "in_doubt" for calls in evidence.calls.values() for call in calls
            ),
            "delegated": _attempts(evidence, "delegated"),
            "recovered": _attempts(evidence, "lost"),
            "handed_over": _attempts(evidence, "handed_over"),
            "stuck": stuck,
            "recovery_p95_s": recovery_p95_seconds(evidence),
            "invariants": invariants,
            "ok": all(invariant["ok"] for invariant in invariants.values()),
        }


def _attempts(evidence: Evidence, outcome: str) -> int:
    return sum(row["outcome"] == outcome for rows_ in evidence.attempts.values() for row in rows_)


_STRIKES: Final[dict[str, Callable[[Storm, Fault, Crew, Mail], None]]] = {
    "kill_agents": lambda storm, fault, crew, mail: crew.kill("agents", fault.pick),
    "kill_control": lambda storm, fault, crew, mail: crew.kill("control", fault.pick),
    "dismiss": lambda storm, fault, crew, mail: crew.dismiss(fault.pick),
    "freeze": lambda storm, fault, crew, mail: crew.freeze(fault.pick, _FREEZE_SECONDS),
    "no_control": lambda storm, fault, crew, mail: crew.dismiss_control(_NO_CONTROL_SECONDS),
    "wipe": lambda storm, fault, crew, mail: storm.servers.wipe(),
    "stale": lambda storm, fault, crew, mail: storm.servers.restart_stale(),
    "postgres": lambda storm, fault, crew, mail: storm.servers.restart_postgres(),
    "duplicate": lambda storm, fault, crew, mail: mail.double(),
    "drop": lambda storm, fault, crew, mail: mail.drop(),
    "stray": lambda storm, fault, crew, mail: send_stray(),
}
