from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.embedded.ports import Claims, free_port
from orchestrator.embedded.stack import worker_answers
from orchestrator.embedded.testing import start_somewhere
from orchestrator.embedded.valkey import Valkey
from tests.background import repeatedly
from tests.redis_clients import cut_clients


@pytest.fixture
def broker(tmp_path: Path):
    (tmp_path / "logs").mkdir()
    with ExitStack() as stack:
        server, _ = start_somewhere(
            lambda port: Valkey(home=tmp_path, port=port, password="secret", durable=False),
            home=tmp_path,
            stack=stack,
        )
        yield server.url


def test_broker_that_ends_the_connection_is_a_worker_that_does_not_answer(broker: str) -> None:
    cut: list[int] = []
    with repeatedly(lambda: cut.append(cut_clients(broker, "normal")), every=0.02):
        assert not worker_answers("nobody", broker=broker)

    assert sum(cut) > 0


def test_broker_that_is_away_is_a_worker_that_does_not_answer() -> None:
    claims = Claims()
    port = free_port(may_have=claims.take)
    try:
        assert not worker_answers("nobody", broker=f"redis://:secret@127.0.0.1:{port}/0")
    finally:
        claims.release()
