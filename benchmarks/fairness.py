"""Ten agents of one tenant beside ten thousand of another: how much longer do they take?

One tenant has a level of 10,000 agents under way on all slots. After the first second the other
starts ten, again and again. Each agent is one call of a second.
"""

import statistics
import time
from typing import Any

from benchmarks import specs
from benchmarks.harness import Installation, installation, tell

MANY, FEW, SECONDS, TURNS = 10_000, 10, 1.0, 7
WORKERS, THREADS = ("agents1", "agents2"), 32

_TIMES = """
SELECT extract(epoch FROM agent_run.started_at - run.created_at)::float,
       extract(epoch FROM agent_run.finished_at - run.created_at)::float
  FROM agent_run JOIN run ON run.id = agent_run.run_id WHERE run.id = ANY (%s::uuid[])
"""
_DONE = "SELECT count(*) FROM agent_run WHERE run_id = %s AND status = 'completed'"


def measure() -> dict[str, Any]:
    with installation() as site:
        site.start_workers(*WORKERS, threads=THREADS)
        site.start_control()
        many_key, few_key = site.key, site.new_tenant("few")
        many = site.publish(_level("many", MANY))
        site.key = few_key
        few = site.publish(_level("few", FEW))
        site.run(few)
        alone = _runs(site, few)
        site.key = many_key
        crowd = site.trigger(many)
        while not site.value(_DONE, crowd):
            time.sleep(0.1)
        tell("the crowd is under way")
        began, before = time.monotonic(), site.value(_DONE, crowd)
        site.key = few_key
        beside = _runs(site, few)
        lasted = time.monotonic() - began
        done = site.value(_DONE, crowd) - before
    return {
        "alone_s": alone["ended"],
        "beside_s": beside["ended"],
        "ratio": round(beside["ended"] / alone["ended"], 2),
        "alone_start_s": alone["started"],
        "beside_start_s": beside["started"],
        # Of what the slots could do in that time, the few of the other tenant included.
        "crowd_use": round((done + TURNS * FEW) * SECONDS / (len(WORKERS) * THREADS * lasted), 3),
        "settings": {
            "many": MANY,
            "few": FEW,
            "latency_s": SECONDS,
            "workers": len(WORKERS),
            "threads": THREADS,
            "turns": TURNS,
        },
    }


def _runs(site: Installation, workflow: str) -> dict[str, float]:
    """Medians over the agents of several runs, from the request until they started and ended."""
    runs = []
    for _ in range(TURNS):
        run = site.trigger(workflow)
        site.await_run(run)
        runs.append(run)
    times = site.database.execute(_TIMES, [runs]).fetchall()
    started, ended = zip(*times, strict=True)
    return {
        "started": round(statistics.median(started), 3),
        "ended": round(statistics.median(ended), 3),
    }


def _level(name: str, size: int) -> dict[str, Any]:
    steps = {
        f"agent{number}": specs.simulated(f"Task {number}", latency=SECONDS)
        for number in range(size)
    }
    return specs.workflow(name, steps, strategy="adaptive")
