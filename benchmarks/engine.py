"""What durability costs: 20 levels of 50 no-op steps, plain Celery against the engine.

Both sides run in one go, in turns, on the same servers with fsync on, two worker processes of
ten threads each, and the same setting for task events. The raw side is `raw_celery.py`. Ours goes
from `POST runs` to the run's end, under the application's role, leases and history included.
"""

import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis

from orchestrator.embedded.commands import web
from orchestrator.embedded.ports import free_port
from orchestrator.embedded.testing import ServerAddresses, test_servers

ROOT = Path(__file__).resolve().parent.parent
LEVELS, WIDTH, PAIRS = 20, 50, 5
STEPS = LEVELS * WIDTH
THREADS = 10
EVENTS = os.environ.get("CELERY_TASK_EVENTS", "false")


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one side. CPU in seconds, by who used it."""

    wall: float
    workers: float
    postgres: float
    redis: float
    redis_bytes: int
    redis_commands: int
    statements: int

    @property
    def cpu(self) -> float:
        return self.workers + self.postgres + self.redis


def measure() -> dict[str, Any]:
    with test_servers(durable=True) as servers, ExitStack() as stack:
        bench = Bench(servers)
        bench.prepare()
        raw_workers = [stack.enter_context(bench.raw_worker(n)) for n in ("raw1", "raw2")]
        ours = [
            stack.enter_context(bench.worker(name, queues, threads))
            for name, queues, threads in (
                ("agents1", "agents.high,agents,agents.low", THREADS),
                ("agents2", "agents.high,agents,agents.low", THREADS),
                ("control", "control", 4),
            )
        ]
        web = stack.enter_context(bench.web())
        raw, durable = bench.pairs(raw_workers, [*ours, web])
    return figures(raw, durable)


def figures(raw: list[Sample], durable: list[Sample]) -> dict[str, Any]:
    def median(samples: list[Sample], of: Callable[[Sample], float]) -> float:
        return statistics.median(of(sample) for sample in samples)

    raw_wall, levels_wall = median(raw, lambda s: s.wall), median(durable, lambda s: s.wall)
    ratios = [b.wall / a.wall for a, b in zip(raw, durable, strict=True)]
    return {
        "raw_wall_s": round(raw_wall, 3),
        "levels_wall_s": round(levels_wall, 3),
        "levels_ratio": round(statistics.median(ratios), 3),
        "levels_ratios": [round(ratio, 3) for ratio in ratios],
        "task_events": EVENTS == "true",
        "steps_per_s": round(STEPS / levels_wall),
        "cpu_ms_per_step": round(median(durable, lambda s: s.cpu) / STEPS * 1000, 3),
        "cpu_ms_per_step_by": by_process(durable, median),
        "raw_cpu_ms_per_step": round(median(raw, lambda s: s.cpu) / STEPS * 1000, 3),
        "raw_cpu_ms_per_step_by": by_process(raw, median),
        "redis_bytes_per_step": round(median(durable, lambda s: s.redis_bytes) / STEPS),
        "raw_redis_bytes_per_step": round(median(raw, lambda s: s.redis_bytes) / STEPS),
        "pg_round_trips_per_step": round(median(durable, lambda s: s.statements) / STEPS, 2),
        "redis_round_trips_per_step": round(median(durable, lambda s: s.redis_commands) / STEPS, 2),
        "raw_redis_round_trips_per_step": round(median(raw, lambda s: s.redis_commands) / STEPS, 2),
        "settings": {
            "levels": LEVELS,
            "width": WIDTH,
            "workers": 2,
            "threads": THREADS,
            "pairs": PAIRS,
            "fsync": True,
            "raw": "threads pool, ack_emulation off, results ignored, one pipeline a level",
        },
    }


def by_process(samples: list[Sample], median: Callable[..., float]) -> dict[str, float]:
    return {
        name: round(median(samples, lambda s, n=name: getattr(s, n)) / STEPS * 1000, 3)
        for name in ("workers", "postgres", "redis")
    }


class Bench:
    def __init__(self, servers: ServerAddresses) -> None:
        self.servers = servers
        self.redis = redis.Redis.from_url(servers.redis_url)
        self.admin = psycopg.connect(
            servers.superuser_url.rsplit("/", 1)[0] + "/muster", autocommit=True
        )
        self.port = free_port()
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("CELERY_")},
            "DJANGO_SETTINGS_MODULE": "orchestrator.settings.dev",
            "DATABASE_URL": servers.app_url,
            "SYSTEM_DATABASE_URL": servers.system_url,
            "MIGRATION_DATABASE_URL": servers.owner_url,
            "REDIS_URL": servers.redis_url,
            "RAW_REDIS_URL": servers.redis_url.rsplit("/", 1)[0] + "/1",
            "SECRET_KEY": "only-for-the-benchmark",
            "LOG_LEVEL": "WARNING",
            "CELERY_TASK_EVENTS": EVENTS,
        }
        os.environ["RAW_REDIS_URL"] = self.environment["RAW_REDIS_URL"]
        self.raw_redis = redis.Redis.from_url(self.environment["RAW_REDIS_URL"], socket_timeout=150)

    def prepare(self) -> None:
        self._manage("migrate", "-v0")
        self._manage("create_tenant", "bench")
        told = self._manage("create_api_key", "--tenant", "bench", "--name", "bench")
        self.key = next(word for word in told.split() if word.startswith("mk_"))

    def _manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stderr)
        return done.stdout

    @contextmanager
    def process(
        self, command: list[str], is_ready: Callable[[], bool], *, without: tuple[str, ...] = ()
    ) -> Iterator[psutil.Process]:
        log = Path(self._log_name(command))
        environment = {k: v for k, v in self.environment.items() if k not in without}
        with log.open("w") as out:
            started = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
            )
        try:
            deadline = time.monotonic() + 60
            while not is_ready():
                if started.poll() is not None or time.monotonic() > deadline:
                    sys.exit(log.read_text()[-2000:])
                time.sleep(0.05)
            yield psutil.Process(started.pid)
        finally:
            started.terminate()
            started.wait(20)
            log.unlink()

    def _log_name(self, command: list[str]) -> str:
        return f"/tmp/muster-bench-{os.getpid()}-{abs(hash(tuple(command)))}.log"

    def worker(self, name: str, queues: str, threads: int) -> Any:
        return self._celery("orchestrator.celery", name, queues, threads)

    def raw_worker(self, name: str) -> Any:
        return self._celery("benchmarks.raw_celery", name, "raw", THREADS)

    def _celery(self, application: str, name: str, queues: str, threads: int) -> Any:
        command = [
            *(sys.executable, "-m", "celery", "-A", application, "worker", "-P", "threads"),
            *("-c", str(threads), "-Q", queues, "-n", f"{name}@bench", "-l", "WARNING"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
        # Without Django's settings Celery leaves Django alone.
        without = ("DJANGO_SETTINGS_MODULE",) if name.startswith("raw") else ()
        return self.process(command, lambda: self._consumes(name), without=without)

    def _consumes(self, name: str) -> bool:
        # A worker that waits for messages blocks on its queues.
        waiting = [c for c in self.redis.client_list() if c["cmd"] == "brpop"]
        return len(waiting) >= self._expected(name)

    def _expected(self, name: str) -> int:
        return ["raw1", "raw2", "agents1", "agents2", "control"].index(name) + 1

    def web(self) -> Any:
        return self.process(list(web("--port", str(self.port))), self._answers)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1):
                return True
        except OSError:
            return False

    def _call(self, path: str, body: object) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1/{path}",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def pairs(
        self, raw_workers: list[psutil.Process], ours: list[psutil.Process]
    ) -> tuple[list[Sample], list[Sample]]:
        workflow = self._call("workflows", {**spec(), "project": "main"})
        self._call(f"workflows/{workflow['id']}/publish", {})
        raw, durable = [], []
        for number in range(PAIRS + 1):
            one = self.sample(raw_workers, self.run_raw)
            other = self.sample(ours, lambda: self.run_ours(workflow["id"]))
            if number:  # the first pair warms up both sides
                raw.append(one)
                durable.append(other)
        return raw, durable

    def run_raw(self) -> None:
        from benchmarks import raw_celery

        raw_celery.start_level(0, LEVELS, WIDTH)
        if not self.raw_redis.blpop([raw_celery.DONE], 120):
            sys.exit("the raw side did not end")

    def run_ours(self, workflow: str) -> None:
        run = self._call("runs", {"workflow": workflow, "input": {}})["id"]
        query = "SELECT status FROM run WHERE id = %s"
        deadline = time.monotonic() + 120
        while (status := self.admin.execute(query, [run]).fetchone()[0]) in ("pending", "running"):
            if time.monotonic() > deadline:
                sys.exit("our side did not end")
            time.sleep(0.005)
        if status != "completed":
            sys.exit(f"our run ended {status}")

    def sample(self, workers: list[psutil.Process], run: Callable[[], None]) -> Sample:
        before = self._counters(workers)
        started = time.perf_counter()
        run()
        wall = time.perf_counter() - started
        after = self._counters(workers)
        used = [b - a for a, b in zip(before, after, strict=True)]
        return Sample(wall, *used[:3], *map(int, used[3:]))

    def _counters(self, workers: list[psutil.Process]) -> list[float]:
        info = self.redis.info("stats")
        statements = self.admin.execute(
            "SELECT COALESCE(sum(calls), 0) FROM pg_stat_statements s JOIN pg_roles r"
            " ON r.oid = s.userid WHERE r.rolname IN ('muster_app', 'muster_system') AND s.toplevel"
        ).fetchone()[0]
        return [
            sum(map(cpu, workers)),
            cpu(psutil.Process(self.servers.postgres_pid)),
            cpu(psutil.Process(self.servers.valkey_pid)),
            info["total_net_input_bytes"] + info["total_net_output_bytes"],
            info["total_commands_processed"],
            float(statements),
        ]


def cpu(process: psutil.Process) -> float:
    """Seconds that a process and its children, ended ones included, have used."""
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        try:
            of_child = child.cpu_times()
        except psutil.Error:
            continue
        total += of_child.user + of_child.system
    return total


def spec() -> dict[str, Any]:
    """20 levels of 50; each step needs one of the level before, so the levels are what they are."""
    steps: dict[str, Any] = {}
    for level in range(LEVELS):
        for lane in range(WIDTH):
            step: dict[str, Any] = {
                "agent": {"type": "tool", "tool": "echo"},
                "arguments": {"value": None},
            }
            if level:
                step["needs"] = [f"s{level - 1}_{lane}"]
            steps[f"s{level}_{lane}"] = step
    return {
        "muster": 1,
        "name": "engine",
        "strategy": "levels",
        "max_parallel": 50,
        "steps": steps,
    }
