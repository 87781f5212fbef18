import json
import re
import uuid
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F
from psycopg import OperationalError

from orchestrator.models import AgentRun
from orchestrator.services.advance import advance
from tests.e2e.stories import echo, start
from tests.world import World


def swept(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    call_command("sweep", *options)
    return capsys.readouterr().out


@pytest.fixture
def unheard(acme: World) -> uuid.UUID:
    """A run whose only message is lost."""
    run_id = start(acme, {"a": echo(value=1)})
    advance(acme.tenant.id, run_id)
    with acme.scope():
        AgentRun.objects.filter(run_id=run_id).update(
            published_at=F("published_at") - timedelta(hours=1)
        )
    return run_id


@pytest.mark.usefixtures("unheard")
def test_sweep_tells_what_it_mended(capsys: pytest.CaptureFixture[str]) -> None:
    # Other tests have left runs of their own.
    assert re.search(r"^republished +[1-9]", swept(capsys), re.MULTILINE)


@pytest.mark.usefixtures("unheard")
def test_sweep_tells_scripts_in_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    mended = json.loads(swept(capsys, "--json"))

    assert mended["republished"] >= 1
    assert {"recovered", "nudged"} <= mended.keys()


def test_database_that_is_away_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr("orchestrator.management.commands.sweep.sweep", away)

    with pytest.raises(CommandError, match="cannot be reached: connection refused"):
        call_command("sweep")
