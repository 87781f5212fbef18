import socket

import pytest
from django.test import Client

from orchestrator.selectors import health


@pytest.fixture(autouse=True)
def _forget() -> None:
    health.database_problem.cache.clear()
    health.degraded_parts.cache.clear()


@pytest.fixture
def dead_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_alive_without_a_key(live_db: None) -> None:
    answer = Client().get("/health")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_ready_without_workers_is_degraded(live_db: None) -> None:
    answer = Client().get("/health/ready")

    assert answer.status_code == 200
    assert answer.json() == {"status": "degraded", "degraded": ["workers"]}


def test_ready_without_redis_is_degraded(live_db: None, settings, dead_port: int) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{dead_port}/0"

    answer = Client().get("/health/ready")

    assert answer.status_code == 200
    assert answer.json()["degraded"] == ["redis", "workers"]


def test_not_ready_while_a_migration_is_missing(live_db: None, monkeypatch) -> None:
    future = health._known_migrations() | {("tenants", "9999_future")}
    monkeypatch.setattr(health, "_known_migrations", lambda: future)

    answer = Client().get("/health/ready")

    assert answer.status_code == 503
    assert "1 migration" in answer.json()["detail"]


def test_not_ready_without_a_database(live_db: None, monkeypatch, dead_port: int) -> None:
    wrapper = health.connections["default"]
    parameters = {**wrapper.get_connection_params(), "host": "127.0.0.1", "port": dead_port}
    monkeypatch.setattr(wrapper, "get_connection_params", lambda: parameters)

    answer = Client().get("/health/ready")

    assert answer.status_code == 503
    assert answer.json()["status"] == "unavailable"
