"""Real workers: one tenant's flood does not keep another waiting."""

from pathlib import Path

import pytest

from orchestrator.models import AgentRun
from tests import workers
from tests.e2e.stories import ended, simulated, start, statuses
from tests.eventually import eventually
from tests.world import World

MANY, FEW = 300, 10


@pytest.mark.usefixtures("live_db")
@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_few_agents_of_one_tenant_pass_by_the_many_of_another(
    acme: World, globex: World, log_dir: Path, strategy: str
) -> None:
    flood = {f"s{number}": simulated("x", latency=0.2) for number in range(MANY)}
    drop = {f"s{number}": simulated("x", latency=0.2) for number in range(FEW)}
    with workers.control("control-f", log_dir), workers.agents("agents-f", log_dir):
        many = start(acme, flood, strategy=strategy)
        eventually(lambda: "completed" in statuses(acme, many).values())
        few = ended(globex, start(globex, drop, strategy=strategy))
        with acme.scope():
            left = AgentRun.objects.filter(run_id=many).exclude(status="completed").count()
        assert ended(acme, many).status == few.status == "completed"

    # In the order of their coming, all of the many would have been first.
    assert left > MANY / 2
