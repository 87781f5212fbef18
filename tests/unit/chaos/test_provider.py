import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.chaos.provider import Provider, entries


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def body(**script: Any) -> dict[str, Any]:
    told = {"run": "r1", "step": "a", "route": "left", "failing": False, "stumbles": []}
    content = json.dumps({**told, "seconds": 0.0, **script})
    return {"model": "storm", "messages": [{"role": "user", "content": content}]}


def test_each_request_and_answer_is_a_line(log: Path) -> None:
    status, call, answer = Provider(log).chat(body())

    assert (status, answer["id"]) == (200, call)
    assert [(entry.what, entry.call, entry.turn) for entry in entries(log)] == [
        ("asked", call, 1),
        ("answered", call, 1),
    ]


def test_first_requests_stumble_and_the_next_is_answered(log: Path) -> None:
    provider = Provider(log)

    assert [provider.chat(body(stumbles=[429, 503]))[0] for _ in range(3)] == [429, 503, 200]


def test_what_is_to_fail_fails_every_time(log: Path) -> None:
    provider = Provider(log)

    assert [provider.chat(body(failing=True))[0] for _ in range(3)] == [400, 400, 400]
    assert "answered" not in {entry.what for entry in entries(log)}


def test_answer_is_what_the_prompt_tells(log: Path) -> None:
    steps = {"steps": {"dig": {"delay": "1s"}}}

    _, _, answer = Provider(log).chat(body(answer=steps))

    assert json.loads(answer["choices"][0]["message"]["content"]) == steps
