"""Flower shows an operator the workers, and the tasks of a run by the run's id."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orchestrator.embedded.model import answers
from orchestrator.embedded.ports import LOOPBACK, free_port
from tests import workers
from tests.e2e.programs import made, serving, spawn
from tests.e2e.stories import echo, ended, start
from tests.eventually import eventually
from tests.world import World

LOGIN = ("operator", "secret")
EVENTS = {"CELERY_TASK_EVENTS": "true"}
# What its page of tasks asks for on behalf of the search box.
TABLE = {"draw": 1, "start": 0, "length": 10, "order[0][column]": 0, "columns[0][data]": "name"}

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def cluster(django_db_setup: None, log_dir: Path) -> Iterator[None]:
    with (
        workers.control("control", log_dir, **EVENTS),
        workers.agents("one", log_dir, **EVENTS),
        workers.agents("two", log_dir, **EVENTS),
    ):
        yield


@pytest.fixture(scope="module")
def address(cluster: None, log_dir: Path) -> Iterator[str]:
    port = free_port()
    address = f"http://{LOOPBACK}:{port}"
    flower = spawn(
        [sys.executable, "-m", "orchestrator.embedded.commands", "flower", f"--port={port}"],
        log=log_dir / "flower.log",
        environment={**os.environ, "FLOWER_BASIC_AUTH": ":".join(LOGIN)},
    )
    with serving(flower, lambda: answers(f"{address}/healthcheck")):
        yield address


@pytest.fixture(scope="module")
def operator(address: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=address, auth=LOGIN, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/tasks", "/api/workers", "/api/tasks"])
def test_stranger_is_refused(address: str, operator: httpx2.Client, path: str) -> None:
    with httpx2.Client(base_url=address, trust_env=False) as stranger:
        refused = [
            stranger.get(path).status_code,
            stranger.get(path, auth=("operator", "guess")).status_code,
        ]

    assert operator.get(path).status_code == 200
    assert refused == [401, 401]


def test_workers_are_listed(operator: httpx2.Client) -> None:
    expected = {"control@test", "one@test", "two@test"}

    def listed() -> bool:
        return expected <= made(operator.get("/api/workers")).keys()

    eventually(listed)


def test_tasks_of_a_run_are_found_by_its_id(operator: httpx2.Client, acme: World) -> None:
    eventually(lambda: len(made(operator.get("/api/workers"))) == 3)
    other, wanted = (start(acme, {f"s{i}": echo(value=i) for i in range(5)}) for _ in range(2))
    ended(acme, other)
    ended(acme, wanted)

    def found() -> dict[str, Any] | None:
        tasks = made(operator.get("/api/tasks", params={"search": f"args:{wanted}"}))
        done = [task for task in tasks.values() if task["state"] == "SUCCESS"]
        return tasks if len(done) == len(tasks) >= 6 else None

    tasks = eventually(found)
    assert tasks is not None
    names = Counter(task["name"] for task in tasks.values())
    assert names["orchestrator.run_agent"] == 5
    assert names.keys() == {"orchestrator.run_agent", "orchestrator.advance"}
    assert {task["worker"] for task in tasks.values()} <= {"control@test", "one@test", "two@test"}
    assert all(str(other) not in task["args"] for task in tasks.values())


def test_search_box_of_the_page_finds_them_too(operator: httpx2.Client, acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1), "b": echo(value=2)})
    ended(acme, run_id)

    def shown() -> set[str]:
        answer = operator.get("/tasks/datatable", params={**TABLE, "search[value]": str(run_id)})
        return {row["name"] for row in made(answer)["data"]}

    eventually(lambda: "orchestrator.run_agent" in shown())
