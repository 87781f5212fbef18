"""What limits and budgets add: `fanout` of two tenants in turn, one with many and one with none."""

import statistics
from functools import partial
from typing import Any

from benchmarks import specs
from benchmarks.fanout import AGENTS, SECONDS, THREADS, WORKERS
from benchmarks.harness import Installation, installation
from benchmarks.metering import Sample, cpu_figures, median, sample

TURNS = 5
_SCOPES = ("admin", "runs:write", "runs:read", "workflows:write", "workflows:read")
ALL = (*WORKERS, "control", "web")
# None of them refuses anything: what is measured is asking.
_LIMITS: tuple[dict[str, Any], ...] = (
    {"scope": "tenant", "unit": "requests", "period": "minute", "limit": 1_000_000},
    {"scope": "tenant", "unit": "total_tokens", "period": "minute", "limit": 10**11},
    {"scope": "tenant", "unit": "requests", "period": "day", "limit": 10**8},
    {"scope": "tenant", "unit": "concurrent", "limit": 10_000},
    {"scope": "project", "project": "main", "unit": "requests", "period": "hour", "limit": 10**8},
    {
        "scope": "project",
        "project": "main",
        "unit": "output_tokens",
        "period": "hour",
        "limit": 10**9,
    },
)
_BUDGETS: tuple[dict[str, Any], ...] = tuple(
    {"name": interval, "scope": "tenant", "interval": interval, "limit_usd": "1000000"}
    for interval in ("total", "month", "day")
)


def measure() -> dict[str, Any]:
    with installation() as site:
        without = site.key
        withal = site.new_tenant("limited", *_SCOPES)
        site.key = withal
        for limit in _LIMITS:
            site.call("rate-limits", limit)
        for budget in _BUDGETS:
            site.call("budgets", budget)
        site.start_workers(*WORKERS, threads=THREADS)
        site.start_control()
        workflows = {key: _published(site, key) for key in (without, withal)}
        turns = [_turn(site, workflows) for _ in range(TURNS + 1)][1:]
    of = {key: median([turn[key] for turn in turns]) for key in (without, withal)}
    ratios = [turn[withal].wall / turn[without].wall for turn in turns]
    return {
        "with_limits_s": round(of[withal].wall, 3),
        "without_limits_s": round(of[without].wall, 3),
        "ratio": round(statistics.median(ratios), 3),
        **cpu_figures(of[withal], AGENTS, "agent", prefix="with_limits_"),
        **cpu_figures(of[without], AGENTS, "agent", prefix="without_limits_"),
        "settings": {
            "agents": AGENTS,
            "limits": len(_LIMITS),
            "budgets": len(_BUDGETS),
            "turns": TURNS,
        },
    }


def _published(site: Installation, key: str) -> str:
    site.key = key
    steps = {
        f"a{number}": specs.simulated(f"Task {number}", latency=SECONDS) for number in range(AGENTS)
    }
    return site.publish(specs.workflow("fanout", steps, strategy="adaptive"))


def _turn(site: Installation, workflows: dict[str, str]) -> dict[str, Sample]:
    samples = {}
    for key, workflow in workflows.items():
        site.key = key
        samples[key] = sample(site, ALL, partial(site.run, workflow))
    return samples
