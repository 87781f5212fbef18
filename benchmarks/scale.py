"""More workers, and larger workflows.

Workers: the same load for each, calls of half a second, on 1, 2 and 4 processes; efficiency is
the throughput against that of one, times their number. Steps: CPU for a step of a workflow of
10,000 against one of 1,000 of the same shape, the worst of the shapes.
"""

import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import specs
from benchmarks.harness import Installation, installation
from benchmarks.metering import Sample, cpu_figures, median, rss_mb, sample

FLEETS = (1, 2, 4)
THREADS, LATENCY, WAVES = 8, 0.5, 12
WIDTH = 100
FEW, MANY = 1_000, 10_000
TURNS = 3
ALL = ("agents1", "agents2", "control", "web")
PROCESSES = ("web", "control", "agents1", "agents2")


def measure() -> dict[str, Any]:
    return {**_workers(), **_steps()}


def _workers() -> dict[str, Any]:
    per_s: dict[int, float] = {}
    with installation() as site:
        site.start_control()
        for fleet in FLEETS:
            started = len(per_s) and max(per_s)
            names = [f"agents{number}" for number in range(started + 1, fleet + 1)]
            site.start_workers(*names, threads=THREADS)
            calls = fleet * THREADS * WAVES
            workflow = site.publish(_calls(calls, slots=fleet * THREADS))
            site.run(workflow)  # warms up the new ones
            walls = [sample(site, ALL[2:], lambda: site.run(workflow)).wall for _ in range(TURNS)]
            per_s[fleet] = calls / statistics.median(walls)
    return {
        f"workers_efficiency_{fleet}": round(per_s[fleet] / per_s[1] / fleet, 3)
        for fleet in FLEETS[1:]
    } | {
        "calls_per_s": {fleet: round(rate, 1) for fleet, rate in per_s.items()},
        "share_of_ideal": {
            fleet: round(rate * LATENCY / (fleet * THREADS), 3) for fleet, rate in per_s.items()
        },
    }
