"""A whole Muster of its own for each benchmark: servers with fsync on, processes, an API key.

Processes are started by the commands that production uses. Nothing is shared with what else runs
on the machine, and inherited server addresses are ignored.
"""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import psutil  # type: ignore[import-untyped]
import psycopg
import redis
from psycopg import Connection

from orchestrator.embedded import commands
from orchestrator.embedded.ports import free_port
from orchestrator.embedded.testing import ServerAddresses, test_servers

ROOT = Path(__file__).resolve().parent.parent
TASK_EVENTS = os.environ.get("CELERY_TASK_EVENTS", "false")
# The benchmark's own connections, so that they can be told from the platform's.
OWN_NAME = "muster-benchmark"
_STARTING_SECONDS = 60
_RUN_SECONDS = 300
_POLL_SECONDS = 0.005
_LIVE = ("pending", "running")

Spec: TypeAlias = Mapping[str, Any]


def tell(progress: str) -> None:
    """To people who wait; results go to standard output."""
    print(progress, file=sys.stderr, flush=True)


@contextmanager
def installation() -> Iterator["Installation"]:
    """Servers, tables, a tenant and its web process; workers are the benchmark's to start."""
    with (
        test_servers(durable=True) as servers,
        tempfile.TemporaryDirectory(prefix="muster-bench-") as logs,
        ExitStack() as stack,
    ):
        yield Installation(servers, Path(logs), stack)


class Installation:
    def __init__(self, servers: ServerAddresses, logs: Path, stack: ExitStack) -> None:
        self.servers = servers
        self.redis = redis.Redis.from_url(servers.redis_url, socket_timeout=150)
        self.database: Connection = psycopg.connect(
            servers.superuser_url.rsplit("/", 1)[0] + "/muster",
            autocommit=True,
            application_name=OWN_NAME,
        )
        self.environment = {
            **os.environ,
            **servers.environment,
            "DJANGO_SETTINGS_MODULE": "orchestrator.settings.dev",
            "SECRET_KEY": "only-for-the-benchmark",
            "LOG_LEVEL": "WARNING",
            "CELERY_TASK_EVENTS": TASK_EVENTS,
            # What budgets cost is measured by `hold` alone.
            "MUSTER_DEFAULT_BUDGET_USD": "",
        }
        self.port = free_port()
        self.processes: dict[str, psutil.Process] = {}
        self._logs = logs
        self._stack = stack
        self._manage("migrate", "-v0")
        self.key = self.new_tenant("bench")
        self.start("web", commands.web("--port", str(self.port)), self._answers)

    def new_tenant(self, slug: str, *scopes: str) -> str:
        """An API key of a new tenant; `key` is the one that is used."""
        self._manage("create_tenant", slug)
        asked = [word for scope in scopes for word in ("--scope", scope)]
        told = self._manage("create_api_key", "--tenant", slug, "--name", slug, *asked)
        return next(word for word in told.split() if word.startswith("mk_"))

    def start_workers(self, *names: str, threads: int) -> None:
        for name in names:
            command = commands.worker("-c", str(threads), "-l", "WARNING", name=name)
            self.start_celery(name, command)

    def start_control(self) -> None:
        self.start_celery("control", commands.control("-l", "WARNING"))

    def start_celery(self, name: str, command: tuple[str, ...], *, is_django: bool = True) -> None:
        before = self._consumers()
        # Without Django's settings Celery leaves Django alone.
        without = () if is_django else ("DJANGO_SETTINGS_MODULE",)
        self.start(name, command, lambda: self._consumers() > before, without=without)

    def start(
        self,
        name: str,
        command: tuple[str, ...],
        is_ready: Callable[[], bool],
        *,
        without: tuple[str, ...] = (),
    ) -> None:
        """Start a process that ends with the installation, and wait until it is ready."""
        log = self._logs / f"{name}.log"
        environment = {k: v for k, v in self.environment.items() if k not in without}
        with log.open("w") as out:
            started = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
            )
        self._stack.callback(started.wait, 30)
        self._stack.callback(started.terminate)
        deadline = time.monotonic() + _STARTING_SECONDS
        while not is_ready():
            if started.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{name} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        self.processes[name] = psutil.Process(started.pid)

    def publish(self, spec: Spec) -> str:
        """The id of a published workflow."""
        workflow: str = self.call("workflows", {**spec, "project": "main"})["id"]
        self.call(f"workflows/{workflow}/publish", {})
        return workflow

    def trigger(self, workflow: str) -> str:
        run: str = self.call("runs", {"workflow": workflow, "input": {}})["id"]
        return run

    def run(self, workflow: str) -> None:
        """From the request until the run has completed in the database."""
        self.await_run(self.trigger(workflow))

    def await_run(self, run: str) -> None:
        deadline = time.monotonic() + _RUN_SECONDS
        while (status := self.value("SELECT status FROM run WHERE id = %s", run)) in _LIVE:
            if time.monotonic() > deadline:
                sys.exit(f"the run did not end: {self._states(run)}")
            time.sleep(_POLL_SECONDS)
        if status != "completed":
            sys.exit(f"the run ended {status}: {self._states(run)}")

    def value(self, query: str, *arguments: Any) -> Any:
        row = self.database.execute(query, arguments).fetchone()
        return row[0] if row else None

    def call(self, path: str, body: object) -> dict[str, Any]:
        connection = self.connection()
        try:
            status, answer = self.post(connection, path, body)
        finally:
            connection.close()
        if status >= 300:
            sys.exit(f"POST {path} answered {status}: {answer}")
        return answer

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def post(
        self, connection: http.client.HTTPConnection, path: str, body: object
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        connection.request("POST", f"/api/v1/{path}", json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def _manage(self, *arguments: str) -> str:
        command = commands.manage(*arguments)
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stderr)
        return done.stdout

    def _consumers(self) -> int:
        """Workers that have begun to wait for messages: each blocks on its queues."""
        return sum(client["cmd"] == "brpop" for client in self.redis.client_list())

    def _answers(self) -> bool:
        connection = self.connection()
        with suppress(OSError):
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        return False

    def _states(self, run: str) -> list[Any]:
        query = "SELECT status, count(*), min(status_reason) FROM agent_run WHERE run_id = %s"
        return self.database.execute(f"{query} GROUP BY status", [run]).fetchall()
