"""Production as the compose file describes it, with workers that come and go."""

import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import psycopg
import pytest
from cryptography.fernet import Fernet

from orchestrator.embedded.ports import LOOPBACK
from orchestrator.embedded.testing import test_servers as start_servers
from tests.e2e.containers import Container, Machine, build
from tests.e2e.programs import api, finished, made
from tests.e2e.stories import simulated
from tests.eventually import eventually

SECRETS = ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "ALLOWED_HOSTS", "CREDENTIALS_KEYS")
HOST = "muster.example.com"
ENV_FILE = {
    "SECRET_KEY": "0123456789" * 5,
    "ALLOWED_HOSTS": HOST,
    "CREDENTIALS_KEYS": Fernet.generate_key().decode(),
    "SECURE_SSL_REDIRECT": "false",
    "FLOWER_BASIC_AUTH": "operator:secret",
    # One agent at a time, so that there is work left for a worker that comes late.
    "WORKER_CONCURRENCY": "1",
}
LATENCY = 0.3
ATTEMPTS = """
SELECT r.step, a.outcome, a.worker
  FROM attempt a JOIN agent_run r ON r.id = a.agent_run_id
 WHERE r.run_id = %s AND a.finished_at IS NOT NULL
"""
STATIC = re.compile(r'(?:href|src)="(/static/[^"]+)"')

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    image, scratch = tmp_path_factory.mktemp("image"), tmp_path_factory.mktemp("scratch")
    build(image)
    with start_servers(scratch) as servers:
        machine = Machine(image=image, scratch=scratch, servers=servers, env_file=ENV_FILE)
        machine.run("migrate")
        yield machine


@pytest.fixture(scope="module")
def web(machine: Machine) -> Iterator[Container]:
    with machine.serving("web") as container:
        yield container


@pytest.fixture(scope="module")
def client(machine: Machine, web: Container) -> Iterator[httpx2.Client]:
    machine.run("web", "manage", "create_tenant", "acme")
    told = machine.run("web", "manage", "create_api_key", "--tenant", "acme")
    with api(web.address, told.split()[-1], Host=HOST) as client:
        yield client


def visitor_of(web: Container) -> httpx2.Client:
    return httpx2.Client(base_url=web.address, headers={"Host": HOST}, trust_env=False)


def listens_everywhere(container: Container) -> bool:
    """Whether it can be reached from outside its container."""
    root = psutil.Process(container.program.pid)
    found = [c for each in (root, *root.children()) for c in each.net_connections("tcp")]
    return {c.laddr.ip for c in found if c.status == psutil.CONN_LISTEN} == {"0.0.0.0"}


def started(client: httpx2.Client, steps: int) -> str:
    wide = {f"s{i}": simulated(f"step {i}", latency=LATENCY) for i in range(steps)}
    draft = made(client.post("workflows", json={"muster": 1, "name": "wide", "steps": wide}))
    made(client.post(f"workflows/{draft['id']}/publish"))
    return str(made(client.post("runs", json={"workflow": "wide"}))["id"])


def attempts(machine: Machine, run_id: str) -> list[tuple[str, str, str]]:
    """Step, outcome and worker of every attempt that has ended."""
    with psycopg.connect(machine.servers.system_url) as connection:
        return connection.execute(ATTEMPTS, [run_id]).fetchall()


def workers_of(machine: Machine, run_id: str) -> set[str]:
    return {worker for _, _, worker in attempts(machine, run_id)}


def files(directory: Path) -> set[Path]:
    return set(directory.rglob("*"))


def test_image_holds_every_static_file_that_its_manifest_names(machine: Machine) -> None:
    root = machine.image / "staticfiles"
    named = json.loads((root / "staticfiles.json").read_text())["paths"].values()

    assert len(named) > 50
    assert [name for name in named if not (root / name).is_file()] == []


def test_site_is_open_to_its_network_and_finds_its_static_files(web: Container) -> None:
    with visitor_of(web) as visitor:
        page = visitor.get("/admin/login/")
        wanted = set(STATIC.findall(page.text))
        statuses = {url: visitor.get(url).status_code for url in wanted}

    assert page.status_code == 200
    assert statuses == dict.fromkeys(wanted, 200)
    assert any("muster" in url for url in wanted)
    assert listens_everywhere(web)


def test_site_speaks_tls_only_but_to_its_health_check(machine: Machine) -> None:
    with machine.serving("web", SECURE_SSL_REDIRECT="true") as web, visitor_of(web) as visitor:
        plain = visitor.get("/admin/login/")
        behind_tls = visitor.get("/admin/login/", headers={"X-Forwarded-Proto": "https"})

    assert plain.headers["Location"] == f"https://{HOST}/admin/login/"
    assert behind_tls.status_code == 200
    assert not web.is_well()


def test_run_goes_on_while_workers_come_and_go(machine: Machine, client: httpx2.Client) -> None:
    built = files(machine.image)
    began = time.monotonic()
    with (
        machine.serving("control") as control,
        machine.serving("worker") as leaver,
        machine.serving("worker") as stayer,
    ):
        # As much as keeps two workers busy for longer than two more take to start.
        steps = 40 + math.ceil(2 * (time.monotonic() - began) / LATENCY)
        run_id = started(client, steps)
        eventually(lambda: workers_of(machine, run_id))
        with machine.serving("worker") as third, machine.serving("worker") as fourth:
            newcomers = {third.worker, fourth.worker}
            eventually(lambda: newcomers <= workers_of(machine, run_id))
            before = made(client.get(f"runs/{run_id}"))["status"]
            code = leaver.program.stop()
            run = finished(client, run_id, within=120)
            health = [each.is_well() for each in (control, leaver, stayer, third, fourth)]

    done = attempts(machine, run_id)
    assert (before, code, run["status"]) == ("running", 0, "completed")
    assert Counter(step for step, _, _ in done) == {f"s{i}": 1 for i in range(steps)}
    assert {outcome for _, outcome, _ in done} == {"completed"}
    assert workers_of(machine, run_id) == newcomers | {leaver.worker, stayer.worker}
    assert health == [True, False, True, True, True]
    # Its containers' file system is read-only.
    assert files(machine.image) == built


def test_flower_is_well_and_asks_who_is_there(machine: Machine) -> None:
    with machine.serving("flower") as flower:
        address = f"http://{LOOPBACK}:{flower.environment['FLOWER_PORT']}/api/workers"
        stranger = httpx2.get(address, trust_env=False)
        operator = httpx2.get(address, trust_env=False, auth=("operator", "secret"))
        is_open_to_its_network = listens_everywhere(flower)

    assert (stranger.status_code, operator.status_code) == (401, 200)
    assert is_open_to_its_network


@pytest.mark.parametrize("service", ["web", "worker", "control"])
@pytest.mark.parametrize("role", ["superuser", "owner"])
def test_service_refuses_a_database_role_that_sees_everything(
    machine: Machine, service: str, role: str
) -> None:
    url = getattr(machine.servers, f"{role}_url")
    told = {"superuser": "is a superuser", "owner": "owns the tables"}[role]

    program = machine.start(service, DATABASE_URL=url).program

    assert program.ended() != 0
    assert f"{told}: row-level security is off for it" in program.said


@pytest.mark.parametrize("service", ["web", "worker", "control", "migrate"])
def test_service_refuses_to_start_without_its_secrets(machine: Machine, service: str) -> None:
    program = machine.start(service, **dict.fromkeys(SECRETS, "")).program

    assert program.ended() != 0
    assert all(name in program.said for name in SECRETS)
