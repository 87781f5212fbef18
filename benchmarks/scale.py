"""More workers, and larger workflows.

Workers: calls of half a second, the same number for each worker process, on 1, 2 and 4 of them;
efficiency is the throughput against as many times that of one. Steps: CPU for a step of a
workflow of 10,000 against one of 1,000 of the same kind; the figure is the worst of the kinds.
Agents: what 500 of them in flight in one worker process take of its memory. Runs: 1,000 of five
steps at a time.
"""

import statistics
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks import specs
from benchmarks.harness import Installation, installation, tell
from benchmarks.metering import Sample, cpu_figures, median, rss_mb, sample, watching

FLEETS = (1, 2, 4)
THREADS, LATENCY_SECONDS, WAVES, TURNS = 8, 0.5, 12, 3

FEW, MANY, WIDTH = 1_000, 10_000, 100
FEW_TURNS = 3
KINDS = ("adaptive", "levels", "wide")
ALL = ("agents1", "agents2", "control", "web")


AGENTS, AGENT_SECONDS = 500, 2.0
RUNS, RUN_STEPS, RUN_SECONDS = 1_000, 5, 0.2


def measure() -> dict[str, Any]:
    return {**_more_workers(), **_more_steps(), **_more_agents(), **_more_runs()}


def _more_workers() -> dict[str, Any]:
    per_s: dict[int, float] = {}
    with installation() as site:
        site.start_control()
        for fleet in FLEETS:
            known = len(site.processes) - 2  # besides web and control
            names = [f"agents{number}" for number in range(known + 1, fleet + 1)]
            site.start_workers(*names, threads=THREADS)
            slots = fleet * THREADS
            workflow = site.publish(_calls(slots * WAVES, slots=slots))
            site.run(workflow)  # warms up the new ones
            walls = [sample(site, [], partial(site.run, workflow)).wall for _ in range(TURNS)]
            per_s[fleet] = slots * WAVES / statistics.median(walls)
            tell(f"{fleet} workers: {per_s[fleet]:.1f} calls/s")
    efficiency = {fleet: round(per_s[fleet] / per_s[1] / fleet, 3) for fleet in FLEETS}
    ideal = {fleet: fleet * THREADS / LATENCY_SECONDS for fleet in FLEETS}
    return {
        "workers_efficiency_4": efficiency[4],
        "workers_efficiency_2": efficiency[2],
        "calls_per_s": {fleet: round(rate, 1) for fleet, rate in per_s.items()},
        "share_of_ideal": {fleet: round(per_s[fleet] / ideal[fleet], 3) for fleet in FLEETS},
        "workers_settings": {
            "threads": THREADS,
            "latency_s": LATENCY_SECONDS,
            "calls_per_worker": THREADS * WAVES,
            "turns": TURNS,
        },
    }


def _calls(number: int, *, slots: int) -> dict[str, Any]:
    """As many in flight as there are threads, so that no worker hoards what another could do."""
    steps = {
        f"call{n}": specs.simulated(f"Call {n}", latency=LATENCY_SECONDS) for n in range(number)
    }
    return specs.workflow(f"calls-{slots}", steps, strategy="adaptive", max_parallel=slots)


def _more_steps() -> dict[str, Any]:
    with installation() as site:
        site.start_control()
        few = {kind: site.publish(_graph(kind, FEW)) for kind in KINDS}
        many = {kind: site.publish(_graph(kind, MANY)) for kind in KINDS}
        sizes = {kind: _message_bytes(site, many[kind]) for kind in KINDS}
        site.start_workers("agents1", "agents2", threads=10)
        small = {kind: _sample(site, few[kind], turns=1 + FEW_TURNS) for kind in KINDS}
        tell(f"{FEW} steps: {_walls(small)}")
        before = _memory(site)
        large = {kind: _sample(site, many[kind], turns=1) for kind in KINDS}
        tell(f"{MANY} steps: {_walls(large)}")
        after = _memory(site)
    costs = {
        kind: [small[kind].cpu / _steps(kind, FEW), large[kind].cpu / _steps(kind, MANY)]
        for kind in KINDS
    }
    ratios = {kind: round(of_many / of_few, 3) for kind, (of_few, of_many) in costs.items()}
    return {
        "cost_per_step_ratio_10k": max(ratios.values()),
        "cost_per_step_ratios_10k": ratios,
        "message_bytes_per_step": max(sizes.values()),
        "message_bytes_per_step_by": sizes,
        "rss_mb": {name: [before[name], after[name]] for name in ALL},
        **{f"{kind}_1k": _figures(small[kind], _steps(kind, FEW)) for kind in KINDS},
        **{f"{kind}_10k": _figures(large[kind], _steps(kind, MANY)) for kind in KINDS},
        "steps_settings": {"width": WIDTH, "workers": 2, "threads": 10, "turns": [FEW_TURNS, 1]},
    }


def _graph(kind: str, steps: int) -> dict[str, Any]:
    name = f"{kind}-{steps}"
    if kind == "wide":
        return specs.workflow(name, specs.lanes(1, steps), strategy="adaptive")
    grid = specs.lanes if kind == "levels" else specs.joined
    return specs.workflow(name, grid(steps // WIDTH, WIDTH), strategy=kind)


def _steps(kind: str, number: int) -> int:
    """Those that join two levels are steps like the others."""
    return number + (number // WIDTH - 1 if kind == "adaptive" else 0)


def _message_bytes(site: Installation, workflow: str) -> int:
    """The mean size of the messages that hand out steps, read while nobody takes them."""
    run = site.trigger(workflow)
    deadline = time.monotonic() + 60
    while not (messages := site.redis.lrange("agents", 0, -1)):
        if time.monotonic() > deadline:
            sys.exit("no step was handed out")
        time.sleep(0.1)
    site.call(f"runs/{run}/cancel", {})
    site.redis.delete("agents")
    return round(statistics.mean(map(len, messages)))


def _sample(site: Installation, workflow: str, *, turns: int) -> Sample:
    """The median of some runs; of several, the first warms up."""
    samples = [sample(site, ALL, partial(site.run, workflow)) for _ in range(turns)]
    return median(samples[1:] or samples)


def _walls(samples: Mapping[str, Sample]) -> str:
    return ", ".join(f"{kind} {of.wall:.1f} s" for kind, of in samples.items())


def _memory(site: Installation) -> dict[str, float]:
    return {name: rss_mb(site, [name]) for name in ALL}


def _figures(of: Sample, steps: int) -> dict[str, Any]:
    return {
        "wall_s": round(of.wall, 2),
        **cpu_figures(of, steps, "step"),
        "redis_bytes_per_step": round(of.redis_bytes / steps),
    }


def _more_agents() -> dict[str, Any]:
    with installation() as site:
        site.start_workers("agents1", threads=AGENTS)
        site.start_control()
        steps = {
            f"agent{n}": specs.simulated(f"Task {n}", latency=AGENT_SECONDS) for n in range(AGENTS)
        }
        workflow = site.publish(specs.workflow("agents", steps, strategy="adaptive"))
        idle = rss_mb(site, ["agents1"])
        with watching(site, ["agents1"]) as peaks:
            site.run(workflow)
            site.run(workflow)
    tell(f"{AGENTS} agents in one process: {idle:.0f} -> {peaks.rss_mb:.0f} MB")
    return {
        "agents_500_rss_idle_mb": idle,
        "agents_500_rss_delta_mb": round(peaks.rss_mb - idle, 1),
    }


def _more_runs() -> dict[str, Any]:
    with installation() as site:
        site.start_workers("agents1", "agents2", threads=100)
        site.start_control()
        needs = [[], ["a"], ["a"], ["b", "c"], ["d"]]
        steps = {
            name: specs.simulated(f"Task {name}", *of, latency=RUN_SECONDS)
            for name, of in zip("abcde", needs, strict=True)
        }
        workflow = site.publish(specs.workflow("runs", steps, strategy="adaptive"))
        site.run(workflow)
        with watching(site, ["agents1", "agents2"]) as peaks:
            took = sample(site, ALL, partial(_run_many, site, workflow))
    tell(f"{RUNS} runs: {took.wall:.1f} s")
    return {
        "runs_1000_wall_s": round(took.wall, 1),
        "runs_1000_per_s": round(RUNS / took.wall, 1),
        **cpu_figures(took, RUNS * RUN_STEPS, "step", prefix="runs_1000_"),
        "pg_connections_max": peaks.connections,
    }


def _run_many(site: Installation, workflow: str) -> None:
    wanted = [{"workflow": workflow, "input": {}}] * (RUNS // 10)
    batches = [site.call("runs/batch", {"runs": wanted})["id"] for _ in range(10)]
    left = "SELECT count(*) FROM run WHERE batch_id = ANY (%s::uuid[]) AND status <> 'completed'"
    deadline = time.monotonic() + 300
    while site.value(left, batches):
        if time.monotonic() > deadline:
            sys.exit("the runs did not end")
        time.sleep(0.05)
