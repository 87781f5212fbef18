"""`manage.py run` and `watch`: how they end, and what they tell meanwhile."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from orchestrator.core.yaml_io import dump_text
from orchestrator.management import live
from orchestrator.models import AgentRun, Run
from orchestrator.selectors.summary import step_lines
from orchestrator.services.control import cancel_run, pause_run, resume_run
from tests.e2e.stories import echo, simulated, start
from tests.engine_driver import drain
from tests.world import World

ROOT = Path(__file__).resolve().parents[3]
ONCE = {"attempts": 1}
LONG = {"strategy": "constant", "base": "1h", "cap": "1h", "jitter": False}


def failing(**fields: Any) -> dict[str, Any]:
    return {**simulated("x", failures={"overloaded": 1.0}), "retry": ONCE, **fields}


def watch(world: World, run_id: object, *more: str) -> int:
    try:
        call_command("watch", str(run_id), "--tenant", world.tenant.slug, *more)
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def act(world: World, run_id: object, action: Callable[[Run], None]) -> None:
    with world.scope():
        action(Run.objects.get(id=run_id))


def test_completed_is_0_and_ends_with_one_line(acme: World, capsys: Any) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    drain(acme, run_id)

    code = watch(acme, run_id, "--json")

    told = capsys.readouterr()
    assert code == 0
    assert json.loads(told.out)["steps"] == {"a": "completed"}
    assert "1 of 1 step" in told.err


@pytest.mark.parametrize(
    ("failure", "code"), [({"mode": "fail_fast"}, 1), ({"mode": "partial"}, 3)]
)
def test_failed_is_1_and_partial_3(acme: World, failure: dict, code: int) -> None:
    run_id = start(acme, {"a": echo(value=1), "b": failing()}, failure=failure)
    drain(acme, run_id)

    assert watch(acme, run_id) == code


@pytest.mark.parametrize(("status", "code"), [("cancelled", 1), ("budget_exceeded", 4)])
def test_cancelled_is_1_and_out_of_budget_4(acme: World, status: str, code: int) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    act(acme, run_id, cancel_run)
    with acme.scope():
        Run.objects.filter(id=run_id).update(stop_wanted=status)
    assert drain(acme, run_id).status == status

    assert watch(acme, run_id) == code


def test_run_of_a_stranger_is_a_wrong_usage(acme: World, globex: World) -> None:
    run_id = start(acme, {"a": echo(value=1)})

    with pytest.raises(CommandError, match="There is no run") as refused:
        watch(globex, run_id)

    assert refused.value.returncode == 2


def test_waits_retries_and_pauses_are_told(
    acme: World, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = start(acme, {"a": failing(retry=LONG)})
    drain(acme, run_id)
    scenes = iter(
        [
            lambda: act(acme, run_id, pause_run),
            lambda: act(acme, run_id, resume_run),
            lambda: act(acme, run_id, cancel_run),
            lambda: drain(acme, run_id),
        ]
    )
    monkeypatch.setattr(live, "_pause", lambda: next(scenes)())

    assert watch(acme, run_id) == 1

    lines = capsys.readouterr().err
    assert "a: waiting for its next attempt, until" in lines
    assert "overloaded" in lines
    assert "Run paused: Paused by" in lines
    assert "a: cancelled" in lines


def test_second_attempt_is_told(acme: World, capsys: Any) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    with acme.scope():
        row = AgentRun.objects.filter(run_id=run_id)
        row.update(status="queued")
        row.update(status="running", attempt=2, lease_until=row.get().created_at)
        (line,) = step_lines(run_id)

    assert live._state(line) == "running, attempt 2"


def test_items_of_a_map_are_one_line(acme: World) -> None:
    each = {**echo(value="${item}"), "map": {"over": "${input.list}"}}
    run_id = start(acme, {"each": each}, given={"list": [1, 2, 3]})
    drain(acme, run_id)

    with acme.scope():
        (line,) = step_lines(run_id)

    assert (line.name, line.status, line.progress) == ("each", "completed", "3/3")


def _heed_interrupts() -> None:
    """As a terminal starts programs, even where these tests run in a script's background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupt_leaves_and_says_how_to_watch_again(acme: World, tmp_path: Path) -> None:
    file = tmp_path / "story.yaml"
    file.write_text(dump_text({"muster": 1, "name": "story", "steps": {"a": echo(value=1)}}))
    slug = acme.tenant.slug
    command = [sys.executable, "manage.py", "run", str(file), "--tenant", slug]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts
    ) as process:
        assert process.stderr
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()

    assert first.startswith("a: "), first + rest
    with acme.scope():
        run = Run.objects.get()
    assert process.returncode == 130
    assert f"manage.py watch {run.id} --tenant {slug}" in rest
    assert "Traceback" not in rest
    assert run.status == "pending"
