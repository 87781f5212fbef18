"""What durability costs: 20 levels of 50 no-op steps, plain Celery against the engine.

All three sides run in one go, in turns, on the same servers, two worker processes of ten threads
each, and the same setting for task events. The raw side is `raw_celery.py`. Ours go from
`POST runs` to the run's end, under the application's role, leases and history included: once by
levels, and once as `adaptive`, with a join step between the levels in the place of the barrier.
"""

import os
import statistics
import sys
from functools import partial
from typing import Any

import redis

from benchmarks import specs
from benchmarks.harness import TASK_EVENTS, Installation, installation
from benchmarks.metering import Sample, cpu_figures, median, sample

LEVELS, WIDTH, TURNS = 20, 50, 5
STEPS = LEVELS * WIDTH
JOINS = LEVELS - 1
THREADS = 10
RAW, OURS = ("raw1", "raw2"), ("agents1", "agents2", "control", "web")

Turn = dict[str, Sample]


def measure() -> dict[str, Any]:
    with installation() as site:
        url = site.servers.redis_url.rsplit("/", 1)[0] + "/1"
        site.environment["RAW_REDIS_URL"] = os.environ["RAW_REDIS_URL"] = url
        for name in RAW:
            site.start_celery(name, _raw_worker(name), is_django=False)
        site.start_workers("agents1", "agents2", threads=THREADS)
        site.start_control()
        return _figures(_turns(site))


def _raw_worker(name: str) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "celery", "-A", "benchmarks.raw_celery", "worker", "-P", "threads"),
        *("-c", str(THREADS), "-Q", "raw", "-n", f"{name}@bench", "-l", "WARNING"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    )


def _turns(site: Installation) -> list[Turn]:
    workflows = {
        "levels": site.publish(
            specs.workflow(
                "levels", specs.lanes(LEVELS, WIDTH), strategy="levels", max_parallel=WIDTH
            )
        ),
        "adaptive": site.publish(
            specs.workflow("adaptive", specs.joined(LEVELS, WIDTH), strategy="adaptive")
        ),
    }

    def turn() -> Turn:
        raw = {"raw": sample(site, RAW, _run_raw)}
        ours = {
            name: sample(site, OURS, partial(site.run, workflow))
            for name, workflow in workflows.items()
        }
        return raw | ours

    turn()  # warms up all sides
    return [turn() for _ in range(TURNS)]


def _run_raw() -> None:
    from benchmarks import raw_celery  # reads its address when it is loaded

    raw_celery.start_level(0, LEVELS, WIDTH)
    own = redis.Redis.from_url(raw_celery.URL, socket_timeout=150)
    if not own.blpop([raw_celery.DONE], 120):
        sys.exit("the raw side did not end")


def _figures(turns: list[Turn]) -> dict[str, Any]:
    raw, levels, adaptive = (
        median([turn[name] for turn in turns]) for name in ("raw", "levels", "adaptive")
    )
    ratios = {
        name: [round(turn[name].wall / turn["raw"].wall, 3) for turn in turns]
        for name in ("levels", "adaptive")
    }
    return {
        "raw_wall_s": round(raw.wall, 3),
        "levels_wall_s": round(levels.wall, 3),
        "adaptive_wall_s": round(adaptive.wall, 3),
        "levels_ratio": statistics.median(ratios["levels"]),
        "adaptive_ratio": statistics.median(ratios["adaptive"]),
        "ratios": ratios,
        "task_events": TASK_EVENTS == "true",
        "steps_per_s": round(STEPS / levels.wall),
        "adaptive_steps_per_s": round((STEPS + JOINS) / adaptive.wall),
        **_per_step("", levels, STEPS),
        **_per_step("adaptive_", adaptive, STEPS + JOINS),
        **_per_step("raw_", raw, STEPS),
        "settings": {
            "levels": LEVELS,
            "width": WIDTH,
            "joins": JOINS,
            "workers": 2,
            "threads": THREADS,
            "turns": TURNS,
            "fsync": True,
            "raw": "not durable; a chord a level, threads pool, ack_emulation off, results"
            " ignored but for what the chords count, one pipeline a level",
        },
    }


def _per_step(prefix: str, of: Sample, steps: int) -> dict[str, Any]:
    return {
        **cpu_figures(of, steps, "step", prefix=prefix),
        f"{prefix}redis_bytes_per_step": round(of.redis_bytes / steps),
        f"{prefix}redis_round_trips_per_step": round(of.redis_commands / steps, 2),
        f"{prefix}pg_round_trips_per_step": round(of.statements / steps, 2),
    }
