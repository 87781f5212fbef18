import itertools

import pytest

from orchestrator.core.errors import IllegalTransitionError
from orchestrator.core.palette import PALETTE
from orchestrator.core.state import (
    AgentRunStatus,
    RunStatus,
    check_transition,
    is_terminal,
    sources,
    targets,
)


@pytest.mark.parametrize("status", [*RunStatus, *AgentRunStatus])
def test_terminal_states_lead_nowhere_but_to_a_new_try(status: RunStatus | AgentRunStatus) -> None:
    if is_terminal(status):
        assert targets(status) <= {RunStatus.RUNNING, AgentRunStatus.PENDING}
    else:
        assert targets(status)


@pytest.mark.parametrize("kind", [RunStatus, AgentRunStatus])
def test_every_state_but_the_first_can_be_reached(kind: type) -> None:
    first, *others = kind

    reached = {first}
    for _ in kind:
        reached |= {target for source in reached for target in targets(source)}

    assert reached == {first, *others}


@pytest.mark.parametrize("kind", [RunStatus, AgentRunStatus])
def test_sources_and_targets_say_the_same(kind: type) -> None:
    for source, target in itertools.product(kind, kind):
        assert (source in sources(target)) == (target in targets(source))


def test_expired_lease_makes_a_running_agent_ready_again() -> None:
    check_transition(AgentRunStatus.RUNNING, AgentRunStatus.READY)


def test_completed_run_cannot_run_again() -> None:
    with pytest.raises(IllegalTransitionError, match="A run that is completed cannot become run"):
        check_transition(RunStatus.COMPLETED, RunStatus.RUNNING)


def test_every_state_has_its_look() -> None:
    assert set(PALETTE) == {*map(str, RunStatus), *map(str, AgentRunStatus)}
    assert all(look.icon for look in PALETTE.values())
