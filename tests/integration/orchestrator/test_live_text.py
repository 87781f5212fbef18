"""What models write reaches those who follow their run, and nobody else."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import redis

from orchestrator.api import events_feed, events_text
from orchestrator.api.events_text import RunTexts
from orchestrator.core.speech import MOST_KEPT, Said, said_from_bytes, said_to_bytes
from orchestrator.dispatch.live import channel_of
from orchestrator.dispatch.live_text import Hearing, Speeches
from orchestrator.embedded.ports import free_port
from orchestrator.services import agent_runs
from orchestrator.services.advance import advance
from tenants.kernel.models import uuid7
from tests.e2e.stories import simulated, start
from tests.engine_driver import drain, queued
from tests.eventually import eventually
from tests.integration.orchestrator.test_event_streams import (
    REDIS_URL,
    Listener,
    heard,
    played,
    streams,
)
from tests.run_rows import make_run, published
from tests.world import World

URL = os.environ["REDIS_URL"]


@pytest.fixture
def speeches() -> Iterator[Speeches]:
    made = Speeches(URL, most=2)
    yield made
    made.stop()


def about(call_id: UUID) -> Said:
    agent_run = str(uuid7())
    return Said(
        call_id=str(call_id), agent_run_id=agent_run, step="a", index=None, attempt=1, turn=1
    )


class Follower:
    """Has subscribed to a run's channel; what it heard of texts, in order."""

    def __init__(self, run_id: UUID) -> None:
        self.said: list[Said] = []
        self._client = redis.Redis.from_url(URL)
        self._pubsub = self._client.pubsub()
        self._pubsub.subscribe(channel_of(run_id))
        assert eventually(lambda: self._pubsub.get_message(timeout=1))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    @property
    def text(self) -> str:
        """The newest call's, from the last time that it was told from its beginning."""
        whole = self.said[0] if self.said else None
        for piece in self.said[1:]:
            same = whole is not None and whole.call_id == piece.call_id
            whole = whole.joined(piece) if whole and same else piece
        return whole.text if whole else ""

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._pubsub.close()
        self._client.close()

    def _listen(self) -> None:
        while not self._stop.is_set():
            message = self._pubsub.get_message(timeout=0.05)
            said = said_from_bytes(message["data"]) if message else None
            if said:
                self.said.append(said)


@contextmanager
def following(run_id: UUID) -> Iterator[Follower]:
    follower = Follower(run_id)
    try:
        yield follower
    finally:
        follower.close()


@contextmanager
def speech(speeches: Speeches, run_id: UUID) -> Iterator[Callable[[str], None]]:
    call_id = uuid7()
    with speeches.speaking(run_id, call_id, about(call_id)) as say:
        assert say is not None
        yield say


def test_follower_hears_pieces_in_order_and_the_end(speeches: Speeches) -> None:
    run_id = uuid7()

    with following(run_id) as follower:
        with speech(speeches, run_id) as say:
            for number in range(50):
                say(f"{number} ")
            eventually(lambda: follower.text.endswith("49 "))
            say("done")
        eventually(lambda: follower.said[-1].is_last)

    assert follower.text == "".join(f"{number} " for number in range(50)) + "done"
    assert len(follower.said) < 20


def test_text_is_kept_for_a_while_behind_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_text, "_KEPT_SECONDS", 0.01)
    over, going = about(uuid7()), about(uuid7())

    async def told() -> tuple[bytes, bytes]:
        texts = RunTexts(uuid7())
        texts.take(replace(over, text="over", is_last=True))
        texts.take(replace(going, text="going"))
        before = texts.lines_for({})
        async with asyncio.timeout(5):
            while b"over" in texts.lines_for({}):
                await asyncio.sleep(0)
        return before, texts.lines_for({})

    before, after = asyncio.run(told())

    assert b"over" in before
    assert b"going" in before
    assert b"going" in after


def test_whoever_comes_later_hears_it_from_the_beginning(speeches: Speeches) -> None:
    run_id = uuid7()

    with speech(speeches, run_id) as say:
        say("Once ")
        with following(run_id) as first:
            eventually(lambda: first.text == "Once ")
            with following(run_id) as second:
                say("upon a time")
                eventually(lambda: second.text == first.text == "Once upon a time")


def test_long_text_is_told_from_near_its_end(speeches: Speeches) -> None:
    run_id = uuid7()

    with speech(speeches, run_id) as say:
        say("x" * 3 * MOST_KEPT)
        with following(run_id) as follower:
            eventually(lambda: follower.said and follower.said[-1].end == 3 * MOST_KEPT)

    assert follower.said[0].offset == 2 * MOST_KEPT


def test_runs_hear_nothing_of_each_other(speeches: Speeches) -> None:
    ours, theirs = uuid7(), uuid7()

    with following(ours) as us, following(theirs) as them, speech(speeches, ours) as say:
        say("ours alone")
        eventually(lambda: us.text)

    assert not them.said


def test_unfollowed_calls_beyond_the_most_are_not_streamed(speeches: Speeches) -> None:
    run_id = uuid7()

    def is_streamed() -> bool:
        call_id = uuid7()
        with speeches.speaking(run_id, call_id, about(call_id)) as say:
            return say is not None

    with speech(speeches, uuid7()), speech(speeches, uuid7()):
        assert not is_streamed()
        with following(run_id):
            eventually(is_streamed)
    assert is_streamed()


def test_nothing_is_kept_of_calls_that_are_over(speeches: Speeches) -> None:
    run_id = uuid7()

    with speech(speeches, run_id) as say:
        say("x")

    eventually(lambda: not speeches._speeches and not speeches._wake.is_set())
    with redis.Redis.from_url(URL) as client:
        assert not client.keys("muster:run:*")


@pytest.mark.parametrize("url", ["", f"redis://127.0.0.1:{free_port()}/0"], ids=["not set", "away"])
def test_absent_redis_holds_up_nobody(url: str) -> None:
    absent = Speeches(url, most=100)
    began = time.monotonic()
    for _ in range(100):
        call_id = uuid7()
        with absent.speaking(uuid7(), call_id, about(call_id)) as say:
            if say:
                say("x")
    took = time.monotonic() - began
    absent.stop()

    assert took < 1


def test_run_is_heard_while_its_step_works(acme: World) -> None:
    text = "A sentence that takes its time. " * 4
    run_id = start(acme, {"a": simulated("hi", text=text, latency=1.0)})
    advance(acme.tenant.id, run_id)
    (due,) = queued(acme, run_id)

    with following(run_id) as follower, Hearing(run_id) as hearing:
        worker = threading.Thread(
            target=agent_runs.execute, args=[acme.tenant.id, due.id], kwargs={"worker": "w"}
        )
        worker.start()
        eventually(lambda: 0 < len(hearing.of("a")) < len(text))
        worker.join()
        eventually(lambda: follower.said[-1].is_last)

    assert follower.text == text
    told = follower.said[-1]
    assert (told.agent_run_id, told.step, told.attempt, told.turn) == (str(due.id), "a", 1, 1)
    drain(acme, run_id)


def texts_in(body: bytes) -> list[dict[str, Any]]:
    blocks = [each for each in body.decode().split("\n\n") if each.startswith("event: agent.text")]
    return [json.loads(block.partition("data: ")[2])["data"] for block in blocks]


def test_streams_tell_text_without_ids(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_feed, "POLL_SECONDS", 3600)
    run = make_run(acme, published(acme), "pending", status="running")
    key = acme.key()
    said = about(uuid7())

    async def say(text: str, offset: int) -> None:
        piece = Said(**{**said.facts, "text": text, "offset": offset})
        async with redis.asyncio.Redis.from_url(REDIS_URL) as client:
            while not await client.publish(channel_of(run.pk), said_to_bytes(piece)):
                await asyncio.sleep(0.02)

    async def scene() -> None:
        async with streams() as program, heard(program, Listener(acme, run, key)) as first:
            await first.until(lambda: program.feed._subscriber)
            await say("Hello ", 0)
            await first.until(lambda: texts_in(first.body))
            async with heard(program, Listener(acme, run, key)) as second:
                await say("you", 6)
                await second.until(lambda: "you" in str(texts_in(second.body)))
                await first.until(lambda: "you" in str(texts_in(first.body)))
                assert [told["text"] for told in texts_in(first.body)] == ["Hello ", "you"]
                whole = "".join(told["text"] for told in texts_in(second.body))
                assert whole == "Hello you"
            told = texts_in(first.body)[1]
            assert told["run_id"] == str(run.pk)
            assert (told["step"], told["offset"]) == ("a", 6)
            assert b"id: " not in first.body.partition(b"event: agent.text")[2].split(b"\n\n")[0]

    played(scene)


def test_what_makes_no_sense_on_the_channel_harms_no_stream(acme: World) -> None:
    run = make_run(acme, published(acme), "pending", status="running")
    key = acme.key()

    async def scene() -> None:
        async with streams() as program, heard(program, Listener(acme, run, key)) as listener:
            await listener.until(lambda: program.feed._subscriber)
            async with redis.asyncio.Redis.from_url(REDIS_URL) as client:
                for message in (b"", b"{", b"[]", b'{"text": 7}'):
                    await client.publish(channel_of(run.pk), message)
                good = said_to_bytes(Said(**{**about(uuid7()).facts, "text": "fine"}))
                while not texts_in(listener.body):
                    await client.publish(channel_of(run.pk), good)
                    await asyncio.sleep(0.02)

    played(scene)
