"""Agents of a run send each other messages: stored once, read once, whatever dies in between."""

import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connections
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from redis import Redis
from uuid_utils.compat import uuid7

from agents_app.core.bus import Handlers, Incoming, Wanted
from agents_app.core.errors import MessageRefusedError
from orchestrator.embedded.testing import start_somewhere
from orchestrator.embedded.valkey import Valkey
from orchestrator.execution import engine_db, messages
from orchestrator.execution.doorbell import Doorbell
from orchestrator.execution.errors import LeaseLostError, RunStoppingError
from orchestrator.models import AgentMessage, MessagePlace
from orchestrator.services import control
from orchestrator.services.sweep import sweep
from tenants.scope import tenant_scope
from tests.engine_driver import run_of
from tests.factories import make_tenant
from tests.integration.orchestrator.test_engine_late_answers import EXPIRE
from tests.talk import Talker, take, talkers, working_run
from tests.world import World


def test_message_to_a_step_reaches_it_alone(acme: World) -> None:
    a, b, c = talkers(acme, "a", "b", "c")

    a.send({"text": "hello"}, to="b", type="greeting")

    (message,) = b.messages()
    assert (message.sender, message.type, message.content) == ("a", "greeting", {"text": "hello"})
    assert c.read() == [] == a.read()


def test_broadcast_reaches_all_others_once(acme: World) -> None:
    a, b, c = talkers(acme, "a", "b", "c")

    a.send("to all")

    assert (b.read(), b.read()) == (["to all"], [])
    assert (c.read(), a.read()) == (["to all"], [])


def test_step_that_begins_later_reads_what_was_sent_before(acme: World) -> None:
    run_id = working_run(acme, "a", "late")
    a = Talker(take(acme, run_id, "a"))
    a.send("early", to="late")
    a.send("to all")

    late = Talker(take(acme, run_id, "late"))

    assert late.read() == ["early", "to all"]


def test_most_urgent_goes_first_then_the_oldest(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    for content, priority in (("x", 5), ("y", 9), ("z", 5), ("low", 0)):
        a.send(content, to="b", priority=priority)
    a.send("urgent", priority=10)

    assert b.read(most=2) == ["urgent", "y"]
    assert b.read() == ["x", "z", "low"]


def seen_by(agent: Talker) -> list[int]:
    with tenant_scope(agent.claim.tenant_id):
        places = MessagePlace.objects.filter(agent_run_id=agent.claim.agent_run_id)
        return list(places.values_list("common_seen", flat=True))


def test_what_concerns_others_is_passed_by_once(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "WINDOW", 3)
    a, b = talkers(acme, "a", "b")
    a.send(1, topic="noise")
    assert b.read() == []
    assert seen_by(b) == []
    for number in (2, 3, 4):
        a.send(number, topic="noise")

    call = uuid7()
    assert b.read(call=call) == []
    assert seen_by(b) == [4]

    a.send("to all")
    assert b.read(call=call) == ["to all"]
    b.bus.subscribe("noise")
    assert b.read() == [2, 3, 4]


def test_unread_messages_stay_for_who_wanted_others(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "WINDOW", 3)
    a, b = talkers(acme, "a", "b")
    for number in range(5):
        a.send(number, to="b" if number % 2 else "")

    assert b.read(types=("order",)) == []
    assert b.read(types=("order",)) == []

    assert sorted(b.read() + b.read()) == [0, 1, 2, 3, 4]


def test_read_takes_only_the_types_that_it_wants(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    a.send(1, to="b", type="fact")
    a.send(2, to="b", type="order")

    assert b.read(types=("order",)) == [2]
    assert b.read() == [1]


def test_reply_goes_to_the_sender_and_belongs_to_the_request(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    asked = a.send("how much?", to="b", type="question")
    a.send("something else", to="b")
    b.send("unasked", to="a")

    (question,) = b.messages(types=("question",))
    b.send("42", reply_to=question.id)

    assert a.read(correlation_id=asked.correlation_id) == ["42"]
    assert a.read() == ["unasked"]


def test_handlers_answer_messages_of_their_types(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    handlers = Handlers()
    handlers.on("double")(lambda message: 2 * message.content)
    handlers.on("note")(lambda message: None)
    sent = a.send(21, to="b", type="double")
    a.send("noted", to="b", type="note")
    call = uuid7()

    for _ in range(2):  # as a worker would that takes up the call of one that died
        assert handlers.serve(b.bus, call_id=call) == 2

    (answer,) = a.messages()
    assert (answer.content, answer.type) == (42, "double.reply")
    assert answer.correlation_id == sent.correlation_id


def test_topic_reaches_its_subscribers_earlier_messages_included(acme: World) -> None:
    a, b, c = talkers(acme, "a", "b", "c")
    a.send("first", topic="news")
    a.send("other", topic="sport")
    assert b.read() == []
    a.send("to all")
    assert b.read() == ["to all"]

    b.bus.subscribe("news")
    a.send("second", topic="news")

    assert b.read() == ["first", "second"]
    assert c.read() == ["to all"]


def test_subscription_with_a_condition_brings_what_it_holds_for(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    b.bus.subscribe("", condition="message.content.amount > 100 && message.type == 'order'")
    for amount in (50, 500):
        a.send({"amount": amount}, topic="sales", type="order")
    a.send("no such field", topic="sales", type="order")
    a.send({"amount": 900}, topic="sales", type="offer")
    call = uuid7()

    first = b.read(call=call)

    assert first == b.read(call=call) == [{"amount": 500}]
    a.send({"amount": 1}, topic="sales", type="order")
    assert b.read() == []
    a.send({"amount": 2}, topic="sales", type="order")
    a.send({"amount": 3_000}, topic="sales", type="order")
    assert b.read(most=1) == [{"amount": 3_000}]


@pytest.mark.parametrize("condition", ["message.", "input.x == 1", "x" * 1_001])
def test_condition_that_means_nothing_is_refused(acme: World, condition: str) -> None:
    (a,) = talkers(acme, "a")

    with pytest.raises(MessageRefusedError):
        a.bus.subscribe("news", condition=condition)


def test_capability_reaches_those_that_have_it(acme: World) -> None:
    run_id = working_run(acme, "a", "b", "c")
    a, c = (Talker(take(acme, run_id, name)) for name in ("a", "c"))
    b = Talker(take(acme, run_id, "b"), capabilities=("reviewer", "calculator"))

    a.send("check this", capability="calculator")

    assert b.read() == ["check this"]
    assert c.read() == []


def test_call_that_is_made_again_sends_once_and_reads_the_same(acme: World) -> None:
    run_id = working_run(acme, "a", "b")
    a, b = (Talker(take(acme, run_id, name)) for name in ("a", "b"))
    sending, reading = uuid7(), uuid7()
    first = a.send("once", to="b", call=sending)
    assert b.read(call=reading) == ["once"]
    a.send("next", to="b")
    for lost in (a, b):
        engine_db.one(EXPIRE, lost.claim.agent_run_id, alias="system")
    sweep()

    a2, b2 = (Talker(take(acme, run_id, name)) for name in ("a", "b"))

    assert a2.send("once", to="b", call=sending) == first
    assert b2.read(call=reading) == ["once"]
    assert b2.read() == ["next"]


def test_attempt_that_lost_its_lease_sends_and_reads_nothing(acme: World) -> None:
    run_id = working_run(acme, "a", "b")
    a, b = (Talker(take(acme, run_id, name)) for name in ("a", "b"))
    b.send("for a", to="a")
    engine_db.one(EXPIRE, a.claim.agent_run_id, alias="system")
    sweep()
    take(acme, run_id, "a")

    with pytest.raises(LeaseLostError):
        a.send("too late", to="b")
    with pytest.raises(LeaseLostError):
        a.read()
    with pytest.raises(LeaseLostError):
        a.bus.subscribe("news")

    assert b.read() == []


def test_run_that_is_to_end_takes_no_more_messages(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    run = run_of(acme, a.claim.run_id)
    with acme.scope():
        control.cancel_run(run)

    with pytest.raises(RunStoppingError):
        a.send("too late", to="b")
    with pytest.raises(RunStoppingError):
        b.read()


def test_full_receiver_is_told_to_the_sender_until_it_reads(acme: World, settings: Any) -> None:
    settings.MUSTER_MAX_UNREAD = 3
    a, b, c = talkers(acme, "a", "b", "c")
    for number in range(3):
        a.send(number, to="b")

    with pytest.raises(MessageRefusedError, match="3 unread") as refusal:
        a.send("one too many", to="b")

    assert refusal.value.reason == "receiver_full"
    a.send("others have room", to="c")
    assert b.read(most=1) == [0]
    a.send(3, to="b")
    with pytest.raises(MessageRefusedError):
        a.send(4, to="b")
    assert (b.read(), c.read()) == ([1, 2, 3], ["others have room"])


def pages_of_sends() -> int:
    """Pages that sends have looked at. The owner reads the statistics of all roles."""
    with connections["owner"].cursor() as cursor:
        cursor.execute(
            "SELECT sum(shared_blks_hit + shared_blks_read) FROM pg_stat_statements"
            " WHERE query LIKE '%muster_send_messages%' AND toplevel"
        )
        return int(cursor.fetchone()[0])


def test_send_costs_the_same_however_much_its_receiver_has(acme: World, settings: Any) -> None:
    settings.MUSTER_MAX_UNREAD = 10_000
    a, _ = talkers(acme, "a", "b")

    def pages_of_ten() -> int:
        before = pages_of_sends()
        for number in range(10):
            a.send(number, to="b")
        return pages_of_sends() - before

    def least() -> int:
        # A new connection reads the catalog first.
        return min(pages_of_ten() for _ in range(4))

    early = least()
    for number in range(3_000):
        a.send(number, to="b")
    engine_db.close_pools()  # new connections plan anew, for a table of that size

    assert least() < 1.5 * early


def test_run_holds_so_many_messages(acme: World, settings: Any) -> None:
    settings.MUSTER_MAX_MESSAGES = 2
    a, b = talkers(acme, "a", "b")
    a.send(1, to="b")
    a.send(2)

    with pytest.raises(MessageRefusedError) as refusal:
        a.send(3)

    assert refusal.value.reason == "run_full"
    assert b.read() == [1, 2]


@pytest.mark.parametrize(
    "given",
    [
        {"to": "nobody"},
        {"to": "b", "topic": "news"},
        {"priority": 11},
        {"type": "no spaces please"},
        {"topic": "x" * 101},
        {"reply_to": uuid7()},
        {"content": "x" * 65_536},
    ],
)
def test_message_that_makes_no_sense_is_refused(acme: World, given: dict) -> None:
    a, b = talkers(acme, "a", "b")

    with pytest.raises(MessageRefusedError):
        a.send(**{"content": "hello", **given})

    assert b.read() == []


def test_nothing_reaches_another_run_or_tenant(acme: World, globex: World) -> None:
    a, b = talkers(acme, "a", "b")
    other_run = talkers(acme, "a", "b")[1]
    stranger, strangers_b = talkers(globex, "a", "b")
    for sender in (a, stranger):
        sender.send("hello", to="b")
        sender.send("to all")
    (mine, _) = b.messages()

    with pytest.raises(MessageRefusedError):
        stranger.send("a reply", reply_to=mine.id)

    assert other_run.read() == []
    assert len(strangers_b.read()) == 2
    with acme.scope():
        runs = AgentMessage.objects.values_list("run_id", flat=True)
        assert set(runs) == {a.claim.run_id}


def test_claim_of_another_tenant_holds_nothing(acme: World, globex: World) -> None:
    a, _ = talkers(acme, "a", "b")
    disguised = Talker(replace(a.claim, tenant_id=globex.tenant.id))

    with pytest.raises(LeaseLostError):
        disguised.send("hello", to="b")
    with pytest.raises(LeaseLostError):
        disguised.read()


def test_messages_are_never_changed(acme: World) -> None:
    a, _ = talkers(acme, "a", "b")
    sent = a.send("as it was", to="b")

    with pytest.raises(psycopg.Error, match="permission denied"):
        engine_db.one(
            "UPDATE agent_message SET priority = 0 WHERE id = %s RETURNING id",
            sent.id,
            alias="system",
        )


def test_sending_from_many_threads_keeps_each_senders_order(acme: World) -> None:
    names = [f"s{number}" for number in range(8)]
    # Threads of two runs share their statements.
    runs = [talkers(acme, *names, "reader") for _ in range(2)]
    sent: dict[UUID, list[UUID]] = {}

    def send(sender: Talker) -> None:
        told = [sender.send(number, to="reader").id for number in range(25)]
        sent[sender.claim.agent_run_id] = told

    everybody = [sender for *senders, _ in runs for sender in senders]
    threads = [threading.Thread(target=send, args=(sender,)) for sender in everybody]
    for thread in threads:
        thread.start()
    found: list[list[Incoming]] = [[], []]
    for (*_, reader), of_run in zip(runs, found, strict=True):
        while len(of_run) < 200:
            of_run += reader.messages(most=100, wait_seconds=10)
    for thread in threads:
        thread.join()

    for (*senders, _), of_run in zip(runs, found, strict=True):
        assert [message.number for message in of_run] == list(range(1, 201))
        for name, sender in zip(names, senders, strict=True):
            of_sender = [message for message in of_run if message.sender == name]
            assert [message.content for message in of_sender] == list(range(25))
            assert [message.id for message in of_sender] == sent[sender.claim.agent_run_id]


def test_reader_wakes_up_as_a_message_comes(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    later = threading.Timer(0.2, a.send, args=("here",), kwargs={"to": "b"})
    later.start()
    began = time.monotonic()

    assert b.read(wait_seconds=20) == ["here"]

    assert time.monotonic() - began < 5
    later.join()


def test_wait_ends_with_its_time_and_with_its_attempt(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    began = time.monotonic()

    assert b.read(wait_seconds=0.2) == []
    a.lease.lost.set()
    assert a.read(wait_seconds=40) == []

    assert time.monotonic() - began < 10


def test_message_whose_ring_was_lost_is_found_all_the_same(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = talkers(acme, "a", "b")
    monkeypatch.setattr(Doorbell, "ring", lambda *_: None)
    later = threading.Timer(0.1, a.send, args=("unheard",), kwargs={"to": "b"})
    later.start()

    assert b.read(wait_seconds=20) == ["unheard"]
    later.join()


def test_conversation_survives_the_loss_of_redis(
    acme: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    a, b = talkers(acme, "a", "b")
    with ExitStack() as at_the_end, ExitStack() as stack:
        server, _ = start_somewhere(
            lambda port: Valkey(home=tmp_path, port=port, password="secret", durable=False),
            home=tmp_path,
            stack=stack,
        )
        own = Doorbell(server.url)
        at_the_end.callback(own.stop)
        monkeypatch.setattr(messages, "doorbell", lambda: own)
        b.read(wait_seconds=0.1)
        a.send(1, to="b")
        client = Redis.from_url(server.url)
        client.flushall()
        a.send(2, to="b")
        assert b.read(wait_seconds=5) == [1, 2]
        later = threading.Timer(0.1, a.send, args=(3,), kwargs={"to": "b"})
        later.start()
        assert b.read(wait_seconds=10) == [3]
        assert client.exists(f"muster:bus:{a.claim.run_id}")
        client.close()
        later.join()
        stack.close()
        a.send(4, to="b")

        assert b.read(wait_seconds=5) == [4]
        assert b.read() == []


def test_wanted_is_bounded(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    for number in range(3):
        a.send(number, to="b")

    assert len(b.bus.read(Wanted(most=0), call_id=uuid7())) == 1
    assert len(b.bus.read(Wanted(most=10_000), call_id=uuid7())) == 2


STEPS = ("a", "b", "c")
SENDING = st.tuples(
    st.sampled_from(STEPS), st.sampled_from(["", *STEPS]), st.integers(0, 10), st.sampled_from("xy")
)
READING = st.tuples(st.sampled_from(STEPS), st.integers(1, 4), st.sampled_from(["", "x"]))


@given(deeds=st.lists(SENDING | READING, max_size=30))
@examples(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_readers_get_what_is_theirs_in_the_order_of_urgency(live_db: None, deeds: list) -> None:
    """Against the simplest that could be true: a list for each reader."""
    # A tenant each time, since steps that nobody finishes take up its share of the workers.
    agents = dict(zip(STEPS, talkers(make_tenant("acme"), *STEPS), strict=True))
    unread: dict[str, list[tuple[int, int, str]]] = {name: [] for name in STEPS}
    for number, deed in enumerate([*deeds, *((name, 100, "") for name in STEPS)]):
        if len(deed) == 4:
            sender, to, priority, kind = deed
            agents[sender].send(number, to=to, priority=priority, type=kind)
            for name in [to] if to else [name for name in STEPS if name != sender]:
                unread[name].append((-priority, number, kind))
            continue
        reader, most, kind = deed
        wanted = sorted(one for one in unread[reader] if kind in ("", one[2]))[:most]
        unread[reader] = [one for one in unread[reader] if one not in wanted]

        found = agents[reader].read(most=most, types=(kind,) if kind else ())

        assert found == [content for _, content, _ in wanted]
