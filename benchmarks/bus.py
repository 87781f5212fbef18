"""Messages between agents on different machines: how many a second, and how long each takes.

Agents of one run, each in a thread of one of four processes, two of which send and two read. Every
message is committed by PostgreSQL before its sender goes on, and its reader's place before that has
it. Latency counts from before the send until the reader has the content, at a rate far below what
is possible; `messages_per_s` is at saturation, where each sender waits for its last message to be
stored before it sends the next.

Beside it the same messages through plain Redis streams, which keep nothing once Redis is gone; and
how long PostgreSQL takes for a commit, two of which are part of each message's way.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psutil  # type: ignore[import-untyped]

from benchmarks import specs
from benchmarks.harness import ROOT, Installation, installation, tell
from benchmarks.hold import BEGIN, FACTS, NAMES
from benchmarks.metering import cpu_seconds, percentile

PROCESSES, SENDERS, READERS = 2, 128, 32
CALM_SENDERS, CALM_RATE = 2, 200.0
SECONDS = 8.0
_COMMITS = 200
Process = subprocess.Popen[str]


def measure() -> dict[str, Any]:
    with installation() as site:
        steps = {
            f"{what}{number}": specs.simulated("Say it.", latency=0.0)
            for what, most in (("r", READERS), ("s", SENDERS))
            for number in range(most)
        }
        workflow = site.publish(specs.workflow("bus", steps, strategy="adaptive"))
        commit_ms = _commit_ms(site)
        figures = {
            f"{kind}{name}": _turn(site, workflow, kind=kind, senders=senders, rate=rate)
            for kind in ("bus", "stream")
            for name, senders, rate in (
                ("_calm", CALM_SENDERS, CALM_RATE / CALM_SENDERS),
                ("_saturated", SENDERS, 0.0),
            )
        }
    return {
        "messages_per_s": figures["bus_saturated"]["per_s"],
        "p50_ms": figures["bus_calm"]["p50_ms"],
        "p99_ms": figures["bus_calm"]["p99_ms"],
        "commit_p50_ms": commit_ms,
        **figures,
        "settings": {
            **{"processes": 2 * PROCESSES, "senders": SENDERS, "readers": READERS},
            **{"calm_per_s": CALM_RATE, "seconds": SECONDS},
        },
    }


def _commit_ms(site: Installation) -> float:
    """The median of a row's commit, one after the other."""
    site.database.execute("CREATE TABLE bench_commit (at timestamptz)")
    took = []
    for _ in range(_COMMITS):
        began = time.perf_counter()
        site.database.execute("INSERT INTO bench_commit VALUES (now())")
        took.append(time.perf_counter() - began)
    return round(1000 * percentile(took, 0.5), 2)


def _turn(
    site: Installation, workflow: str, *, kind: str, senders: int, rate: float
) -> dict[str, float]:
    tell(f"{kind}: {senders} senders, " + (f"{rate:g}/s each" if rate else "as fast as they can"))
    facts, ids = _working(site, workflow)
    readers = min(senders, READERS)
    to = [f"{ids[f'r{number}']}" for number in range(readers)]
    # The bus is told a step, a stream has the id of its reader.
    names = [f"r{number}" for number in range(readers)] if kind == "bus" else to
    by = [f"{ids[f's{number}']}={names[number % readers]}" for number in range(senders)]
    reading = [_start(site, kind, "read", facts, to[n::PROCESSES]) for n in range(PROCESSES)]
    sending = [_start(site, kind, "send", facts, by[n::PROCESSES]) for n in range(PROCESSES)]
    server = psutil.Process(site.servers.postgres_pid)
    postgres = cpu_seconds(server)
    words = f"{rate} {SECONDS}\n"
    # What `communicate` writes, it writes once it waits: all have to begin before that.
    for process in reading + sending:
        if process.stdin:
            process.stdin.write(words)
            process.stdin.flush()
    sent, read = _told(sending), _told(reading)
    number = len(sent["took"])
    if number != len(read["took"]):
        sys.exit(f"{number} messages were sent, {len(read['took'])} were read")
    return {
        "per_s": round(number / sent["seconds"], 1),
        "p50_ms": round(1000 * percentile(read["took"], 0.5), 2),
        "p99_ms": round(1000 * percentile(read["took"], 0.99), 2),
        "stored_p50_ms": round(1000 * percentile(sent["took"], 0.5), 2),
        "sender_cpu_ms": round(1000 * sent["cpu"] / number, 3),
        "reader_cpu_ms": round(1000 * read["cpu"] / number, 3),
        "postgres_cpu_ms": round(1000 * (cpu_seconds(server) - postgres) / number, 3),
    }


def _working(site: Installation, workflow: str) -> tuple[str, dict[str, UUID]]:
    """A run all of whose agents are at work: what its workers know of it, and their ids by step."""
    run = site.trigger(workflow)
    site.database.execute(BEGIN, [run])
    *facts, _ = site.database.execute(FACTS, [run]).fetchone() or ()
    rows = site.database.execute("SELECT step, id FROM agent_run WHERE run_id = %s", [run])
    return json.dumps(dict(zip(NAMES, facts, strict=True))), dict(rows.fetchall())


def _start(site: Installation, kind: str, what: str, facts: str, agents: Sequence[str]) -> Process:
    """A process that waits for its word to begin."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.talkers", kind, what, facts, *agents],
        cwd=ROOT,
        env=site.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.stdout:
        process.stdout.readline()
    return process


def _told(processes: Sequence[Process]) -> dict[str, Any]:
    told = [json.loads(process.communicate()[0]) for process in processes]
    return {
        "took": [seconds for one in told for seconds in one["took"]],
        "seconds": max(one["seconds"] for one in told),
        "cpu": sum(one["cpu"] for one in told),
    }
