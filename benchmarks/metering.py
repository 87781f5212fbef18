"""What a run took: time, CPU by process, traffic, statements, connections, memory."""

import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg

from benchmarks.harness import OWN_NAME, Installation

_STATEMENTS = """
SELECT COALESCE(sum(calls), 0)::bigint FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
 WHERE r.rolname IN ('muster_app', 'muster_system') AND s.toplevel
"""
_CONNECTIONS = """
SELECT count(*) FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND application_name <> %s
"""
_MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one side: seconds, CPU seconds by kind of process, and traffic."""

    wall: float
    cpu_by: Mapping[str, float]
    redis_bytes: float
    redis_commands: float
    statements: float

    @property
    def cpu(self) -> float:
        return sum(self.cpu_by.values())


def sample(site: Installation, names: Iterable[str], run: Callable[[], None]) -> Sample:
    """What `run` took of the named processes and of the servers."""
    processes = {name: site.processes[name] for name in names}
    processes["postgres"] = psutil.Process(site.servers.postgres_pid)
    processes["redis"] = psutil.Process(site.servers.valkey_pid)
    counters, cpu = _counters(site), _cpu_by(processes)
    started = time.perf_counter()
    run()
    wall = time.perf_counter() - started
    used = {kind: seconds - cpu[kind] for kind, seconds in _cpu_by(processes).items()}
    moved = [after - before for before, after in zip(counters, _counters(site), strict=True)]
    return Sample(wall, used, *moved)


def median(samples: Sequence[Sample]) -> Sample:
    """The median of each figure by itself."""

    def middle(figure: Callable[[Sample], float]) -> float:
        return statistics.median(map(figure, samples))

    return Sample(
        wall=middle(lambda one: one.wall),
        cpu_by={
            kind: statistics.median(one.cpu_by[kind] for one in samples)
            for kind in samples[0].cpu_by
        },
        redis_bytes=middle(lambda one: one.redis_bytes),
        redis_commands=middle(lambda one: one.redis_commands),
        statements=middle(lambda one: one.statements),
    )


def cpu_figures(of: Sample, number: int, unit: str, *, prefix: str = "") -> dict[str, Any]:
    """CPU for each of a number of units (steps, runs), and by whom."""
    by = {kind: round(seconds / number * 1000, 3) for kind, seconds in of.cpu_by.items()}
    name = f"{prefix}cpu_ms_per_{unit}"
    return {name: round(of.cpu / number * 1000, 3), f"{name}_by": by}


def _cpu_by(processes: Mapping[str, psutil.Process]) -> dict[str, float]:
    """Those that differ in their number alone, such as agents1 and agents2, together."""
    used: dict[str, float] = {}
    for name, process in processes.items():
        kind = name.rstrip("0123456789")
        used[kind] = used.get(kind, 0.0) + cpu_seconds(process)
    return used


def _counters(site: Installation) -> list[float]:
    info = site.redis.info("stats")
    return [
        info["total_net_input_bytes"] + info["total_net_output_bytes"],
        info["total_commands_processed"],
        site.value(_STATEMENTS),
    ]


def cpu_seconds(process: psutil.Process) -> float:
    """What a process and its children, ended ones included, have used."""
    times = process.cpu_times()
    total: float = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        try:
            of_child = child.cpu_times()
        except psutil.Error:
            continue
        total += of_child.user + of_child.system
    return total


def rss_mb(site: Installation, names: Iterable[str]) -> float:
    used: int = sum(site.processes[name].memory_info().rss for name in names)
    return round(used / _MEGABYTE, 1)


@dataclass(slots=True)
class Peaks:
    connections: int = 0
    rss_mb: float = 0.0


@contextmanager
def watching(site: Installation, names: Iterable[str], *, every: float = 0.1) -> Iterator[Peaks]:
    """Keep the peaks of the platform's connections and of the named processes' memory."""
    names = list(names)
    peaks = Peaks()
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(site, names, peaks, over, every))
    watcher.start()
    try:
        yield peaks
    finally:
        over.set()
        watcher.join()


def _watch(
    site: Installation, names: list[str], peaks: Peaks, over: threading.Event, every: float
) -> None:
    with psycopg.connect(
        site.servers.superuser_url, autocommit=True, application_name=OWN_NAME
    ) as own:
        while not over.wait(every):
            row = own.execute(_CONNECTIONS, [OWN_NAME]).fetchone()
            peaks.connections = max(peaks.connections, row[0] if row else 0)
            peaks.rss_mb = max(peaks.rss_mb, rss_mb(site, names))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
