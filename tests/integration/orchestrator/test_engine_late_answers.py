"""Answers that come when their worker has been given up: never asked again, never lost."""

import threading
from datetime import timedelta
from uuid import UUID

from agents_app.core.model import Message, ModelReply, ModelRequest
from orchestrator.execution import engine_db
from orchestrator.execution.claims import Claim, claim
from orchestrator.execution.gateway import GuardedClient
from orchestrator.execution.leases import Lease
from orchestrator.execution.providers import client_for_tenant
from orchestrator.models import LlmCall, Run
from orchestrator.services import control
from orchestrator.services.advance import advance
from orchestrator.services.sweep import sweep
from orchestrator.services.workflows import publish_spec
from tests.e2e.stories import simulated, start
from tests.engine_driver import drain, run_of, step_of
from tests.eventually import eventually
from tests.world import World

REQUEST = ModelRequest(provider="simulated", model="sim", messages=(Message("user", "hello"),))
EXPIRE = """
UPDATE agent_run SET lease_until = clock_timestamp() - interval '1 s' WHERE id = %s RETURNING id
"""
HELD = 900
HOLD = "UPDATE llm_call SET hold_nano = 900 WHERE agent_run_id = %s RETURNING id"
MARK = """
UPDATE llm_call SET reply = jsonb_set(reply, '{text}', to_jsonb('attempt ' || attempt))
 WHERE agent_run_id = %s RETURNING id
"""
FINISH = """
SELECT * FROM muster_finish_all(%s, 'running', %s::uuid[], '{2}', '{completed}', '{""}', '{null}',
                                '{null}', '{null}', '{null}', '{null}')
"""


class Late:
    """A worker whose call is under way as its lease runs out: its step goes to another."""

    def __init__(self, world: World, run_id: UUID | None = None) -> None:
        self.world = world
        self.run_id = run_id or start(world, {"a": simulated("hello")})
        advance(world.tenant.id, self.run_id)
        self.agent_run = step_of(world, self.run_id, "a").id
        self._client = client(take(world, self.agent_run))
        self._client._turn = 1
        self._call = self._client._open(REQUEST)
        engine_db.one(HOLD, self.agent_run, alias="system")
        engine_db.one(EXPIRE, self.agent_run, alias="system")
        sweep()

    def hears(self) -> ModelReply:
        provider = client_for_tenant(
            "simulated", tenant_id=self.world.tenant.id, uses_environment=True
        ).client
        return self._client._send(provider, REQUEST, self._call)

    @property
    def calls(self) -> list[LlmCall]:
        with self.world.scope():
            return list(LlmCall.objects.filter(agent_run_id=self.agent_run))

    @property
    def costs(self) -> tuple[int, int, int]:
        """By the calls, by the step, by the run."""
        step = step_of(self.world, self.run_id, "a")
        run = run_of(self.world, self.run_id)
        return sum(call.cost_nano for call in self.calls), step.cost_nano, run.cost_nano

    @property
    def is_corrected(self) -> bool:
        """Whether all agree, and no longer on what was held. Others may have set a price."""
        return len({*self.costs}) == 1 and HELD not in self.costs


def take(world: World, agent_run: UUID) -> Claim:
    taken = claim(world.tenant.id, agent_run, worker="w", lease=timedelta(seconds=30))
    assert taken
    return taken


def client(taken: Claim) -> GuardedClient:
    return GuardedClient(taken, Lease(taken.agent_run_id, taken.attempt), role="executor")


def waiting_for_locks() -> int:
    row = engine_db.one("SELECT count(*) AS n FROM pg_locks WHERE NOT granted", alias="system")
    return row["n"] if row else 0


def test_answer_that_comes_after_the_next_claim_is_not_asked_for_again(acme: World) -> None:
    late = Late(acme)
    heir = take(acme, late.agent_run)

    answer = late.hears()

    assert client(heir).complete(REQUEST) == answer
    assert [call.status for call in late.calls] == ["closed"]


def test_answer_that_comes_after_its_turn_was_asked_again_stands_behind_that_one(
    acme: World,
) -> None:
    late = Late(acme)
    heir = take(acme, late.agent_run)
    client(heir).complete(REQUEST)
    late.hears()
    engine_db.many(MARK, late.agent_run, alias="system")
    engine_db.one(EXPIRE, late.agent_run, alias="system")
    sweep()

    third = take(acme, late.agent_run)

    assert [call.status for call in late.calls] == ["closed", "closed"]
    assert third.replies["1"]["text"] == "attempt 2"


def test_turn_in_doubt_is_asked_again(acme: World) -> None:
    late = Late(acme)

    client(take(acme, late.agent_run)).complete(REQUEST)

    assert [call.status for call in late.calls] == ["in_doubt", "closed"]


def test_late_answer_corrects_a_step_that_is_just_being_finished(acme: World) -> None:
    late = Late(acme)
    take(acme, late.agent_run)
    hearing = threading.Thread(target=late.hears)

    with engine_db.transaction() as connection:
        assert engine_db.rows(connection, FINISH, [acme.tenant.id, [late.agent_run]])
        hearing.start()
        eventually(lambda: waiting_for_locks() > 0)
    hearing.join(10)
    drain(acme, late.run_id)

    assert late.is_corrected
    assert step_of(acme, late.run_id, "a").input_tokens > 0


def test_late_answer_counts_in_a_run_that_is_cancelled_before_the_next_attempt(
    acme: World,
) -> None:
    late = Late(acme)

    late.hears()
    with acme.scope():
        control.cancel_run(run_of(acme, late.run_id))
    advance(acme.tenant.id, late.run_id)

    assert run_of(acme, late.run_id).status == "cancelled"
    assert late.is_corrected


def test_late_answer_of_a_sub_workflow_is_corrected_in_the_runs_above(acme: World) -> None:
    with acme.scope():
        publish_spec(
            project=acme.project,
            spec={"muster": 1, "name": "leaf", "steps": {"a": simulated("hello")}},
        )
    parent = start(acme, {"sub": {"workflow": "leaf"}})
    drain(acme, parent)
    with acme.scope():
        child = Run.objects.get(parent_agent_run_id=step_of(acme, parent, "sub").id)
    advance(acme.tenant.id, child.id)
    late = Late(acme, child.id)
    drain(acme, child.id)
    drain(acme, parent)
    assert run_of(acme, parent).cost_nano == late.costs[0] > 0

    late.hears()

    assert late.is_corrected
    assert step_of(acme, parent, "sub").cost_nano == late.costs[0]
    assert run_of(acme, parent).cost_nano == late.costs[0]
