"""Every blueprint that ships works for a new tenant, on the real small model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings

from orchestrator.core.yaml_io import load_text
from orchestrator.execution.providers import provider_settings
from orchestrator.models import AgentRun, Run
from orchestrator.services import agent_runs
from orchestrator.services.advance import advance
from orchestrator.services.runs import start_run
from orchestrator.services.workflows import publish_spec, validate_spec
from tests.model_servers import smollm2
from tests.world import World

FOLDER = settings.BASE_DIR / "templates" / "workflows"
BLUEPRINTS = sorted(FOLDER.glob("*.yaml"))
INPUTS: dict[str, dict[str, Any]] = {
    "research_report": {"topic": "How bees find their way home"},
    "support_triage": {"message": "My parcel has not arrived, and I need it tomorrow."},
    "invoice_check": {"supplier": "Globex", "net": 100, "vat_percent": 20, "billed": 125},
}


@pytest.fixture(scope="module")
def model_url() -> Iterator[str]:
    with smollm2() as url:
        yield f"{url}/v1"


@pytest.fixture
def _local(model_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The provider `local`, as LOCAL_MODEL_URL would configure it."""
    given = settings.MUSTER_PROVIDERS
    local = {**given["local"], "base_url": model_url}
    monkeypatch.setattr(settings, "MUSTER_PROVIDERS", {**given, "local": local})
    provider_settings.cache_clear()
    yield
    monkeypatch.undo()
    provider_settings.cache_clear()


def run_to_the_end(world: World, spec: dict[str, Any], given: dict[str, Any]) -> Run:
    """Drive a run as the workers do, one agent run after the other."""
    with world.scope():
        version = publish_spec(project=world.project, spec=spec)
        run = start_run(workflow=version.workflow, version=version, input=given)
    while True:
        advance(world.tenant.id, run.id)
        with world.scope():
            run.refresh_from_db()
        if run.finished_at:
            return run
        for agent_run in queued(world, run.id):
            agent_runs.execute(world.tenant.id, agent_run, worker="one@test")


def queued(world: World, run_id: UUID) -> list[UUID]:
    with world.scope():
        found = AgentRun.objects.filter(run_id=run_id, status="queued").values_list("id", flat=True)
        assert found, "the run stands still"
        return list(found)


def test_every_blueprint_has_an_example() -> None:
    assert {path.stem for path in BLUEPRINTS} == INPUTS.keys()


@pytest.mark.usefixtures("_local")
@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_blueprint_is_valid_for_a_new_tenant(path: Path, acme: World) -> None:
    with acme.scope():
        assert validate_spec(load_text(path.read_bytes())) == []


@pytest.mark.usefixtures("_local")
@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_blueprint_runs_on_the_local_model(path: Path, acme: World) -> None:
    run = run_to_the_end(acme, load_text(path.read_bytes()), INPUTS[path.stem])

    with acme.scope():
        steps = list(AgentRun.objects.filter(run=run))
    assert run.status == "completed", run.status_reason
    assert all(step.output not in (None, "") for step in steps)
    assert all(part not in (None, "") for part in run.output.values())
    asked = [step for step in steps if step.uses_model]
    assert all(step.llm_calls == 1 and step.output_tokens > 0 for step in asked)


@pytest.mark.usefixtures("_local")
def test_invoice_check_gets_its_figures_from_the_calculator(acme: World) -> None:
    run = run_to_the_end(
        acme, load_text((FOLDER / "invoice_check.yaml").read_bytes()), INPUTS["invoice_check"]
    )

    assert (run.output["expected"], run.output["difference"]) == (120, 5)
