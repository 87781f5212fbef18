"""Two chains of ten calls, 0.9 and 0.1 s in opposite phase: what a barrier between levels costs.

Level by level each pair takes its slower call, 9 s in all; each chain by itself takes 5 s.
"""

import statistics
import time
from typing import Any

from benchmarks import specs
from benchmarks.harness import Installation, installation

LENGTH, SLOW, FAST, TURNS = 10, 0.9, 0.1, 3
STRATEGIES = ("levels", "adaptive")


def measure() -> dict[str, Any]:
    with installation() as site:
        site.start_workers("agents", threads=8)
        site.start_control()
        workflows = {name: site.publish(_chains(name)) for name in STRATEGIES}
        site.run(workflows["adaptive"])  # warms up
        turns = [
            {name: _wall(site, workflow) for name, workflow in workflows.items()}
            for _ in range(TURNS)
        ]
    walls = {name: [round(turn[name], 3) for turn in turns] for name in STRATEGIES}
    return {
        "levels_s": statistics.median(walls["levels"]),
        "adaptive_s": statistics.median(walls["adaptive"]),
        "ideal_s": LENGTH / 2 * (SLOW + FAST),
        "walls_s": walls,
        "settings": {"chains": 2, "length": LENGTH, "seconds": [SLOW, FAST], "turns": TURNS},
    }


def _wall(site: Installation, workflow: str) -> float:
    started = time.perf_counter()
    site.run(workflow)
    return time.perf_counter() - started


def _chains(strategy: str) -> dict[str, Any]:
    steps: specs.Steps = {}
    for number in range(LENGTH):
        for chain in range(2):
            latency = SLOW if (number + chain) % 2 == 0 else FAST
            needs = [f"c{chain}_{number - 1}"] if number else []
            name = f"c{chain}_{number}"
            steps[name] = specs.simulated(f"Step {name}", *needs, latency=latency)
    return specs.workflow(strategy, steps, strategy=strategy)
