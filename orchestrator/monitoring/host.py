"""What this process takes of its machine, cheap enough to be asked at the end of every step."""

import os
import threading
import time
from dataclasses import dataclass
from functools import cache

import psutil  # type: ignore[import-untyped]

KEPT_SECONDS = 2.0
_MB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSample:
    """100 percent of CPU is one core; memory is what is resident."""

    cpu_percent: float
    memory_percent: float
    memory_used_mb: float


def host_sample() -> HostSample:
    """The figures of this process, at most two seconds old. Threads may ask at once."""
    # A forked child is a process of its own and inherits nobody's lock.
    return _sampler(os.getpid()).sample()


class _Sampler:
    def __init__(self) -> None:
        self._process = psutil.Process()
        self._lock = threading.Lock()
        # CPU is counted between two samples; before the first, since the process began.
        self._since, self._cpu_seconds = self._process.create_time(), 0.0
        self._fresh_until = 0.0
        self._latest: HostSample | None = None

    def sample(self) -> HostSample:
        with self._lock:
            if self._latest is None or time.monotonic() >= self._fresh_until:
                self._latest = self._take()
                self._fresh_until = time.monotonic() + KEPT_SECONDS
            return self._latest

    def _take(self) -> HostSample:
        times, resident = self._process.cpu_times(), self._process.memory_info().rss
        at, cpu_seconds = time.time(), times.user + times.system
        # The machine's clock may have been set back in between.
        elapsed = max(at - self._since, 0.001)
        percent = 100 * (cpu_seconds - self._cpu_seconds) / elapsed
        self._since, self._cpu_seconds = at, cpu_seconds
        return HostSample(
            cpu_percent=round(percent, 1),
            memory_percent=round(100 * resident / psutil.virtual_memory().total, 2),
            memory_used_mb=round(resident / _MB, 1),
        )


@cache
def _sampler(process_id: int) -> _Sampler:
    return _Sampler()
