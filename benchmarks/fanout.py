"""One level of 500 agents, each with one call of a second, on two worker processes.

The calls go through the gateway: priced, recorded before they are sent, charged. Every agent has
a thread of its own, so a second is the ideal.
"""

from functools import partial
from typing import Any

from benchmarks import specs
from benchmarks.harness import Installation, installation
from benchmarks.metering import Sample, cpu_figures, median, rss_mb, sample, watching

AGENTS, SECONDS, TURNS = 500, 1.0, 5
WORKERS, THREADS = ("agents1", "agents2"), 260
ALL = (*WORKERS, "control", "web")
STRATEGIES = ("levels", "adaptive")


def measure() -> dict[str, Any]:
    with installation() as site:
        site.start_workers(*WORKERS, threads=THREADS)
        site.start_control()
        idle = rss_mb(site, WORKERS)
        workflows = {name: site.publish(_level(name)) for name in STRATEGIES}
        with watching(site, WORKERS) as peaks:
            turns = _turns(site, workflows)
    of = {name: median([turn[name] for turn in turns]) for name in STRATEGIES}
    return {
        "makespan_s": round(of["adaptive"].wall, 3),
        "levels_makespan_s": round(of["levels"].wall, 3),
        "ideal_s": SECONDS,
        **cpu_figures(of["adaptive"], AGENTS, "agent"),
        **cpu_figures(of["levels"], AGENTS, "agent", prefix="levels_"),
        "pg_round_trips_per_agent": round(of["adaptive"].statements / AGENTS, 2),
        "pg_connections_max": peaks.connections,
        "rss_idle_mb": idle,
        "rss_delta_mb": round(peaks.rss_mb - idle, 1),
        "makespans_s": {name: [round(turn[name].wall, 3) for turn in turns] for name in STRATEGIES},
        "settings": {
            "agents": AGENTS,
            "latency_s": SECONDS,
            "workers": len(WORKERS),
            "threads": THREADS,
            "turns": TURNS,
            "fsync": True,
            "strategy": "adaptive",
        },
    }


def _turns(site: Installation, workflows: dict[str, str]) -> list[dict[str, Sample]]:
    def turn() -> dict[str, Sample]:
        return {
            name: sample(site, ALL, partial(site.run, workflow))
            for name, workflow in workflows.items()
        }

    turn()  # warms up: threads and connections are made when they are first needed
    return [turn() for _ in range(TURNS)]


def _level(strategy: str) -> dict[str, Any]:
    steps = {
        f"agent{number}": specs.simulated(f"Task {number}", latency=SECONDS)
        for number in range(AGENTS)
    }
    return specs.workflow(strategy, steps, strategy=strategy)
