"""Event streams: the answer that opens one, and the program that goes on with it.

The program is the real one, with Django, PostgreSQL and Valkey behind it, called as its server
would call it.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
import redis.asyncio
from django.core.wsgi import get_wsgi_application
from django.db import connection

from orchestrator.api import events_feed
from orchestrator.api.events import FOLLOW
from orchestrator.api.events_feed import Feed
from orchestrator.api.events_stream import EventStreams
from orchestrator.dispatch.live import NEWS, channel_of
from orchestrator.embedded.ports import free_port
from orchestrator.models import Run, RunEvent
from orchestrator.web import WsgiSite
from tenants.kernel.clock import now
from tenants.models import ApiKey
from tests.redis_clients import cut_clients
from tests.rest import call, get
from tests.run_rows import make_run, published
from tests.world import World

STREAM = "text/event-stream"
REDIS_URL = os.environ["REDIS_URL"]
NOBODY = f"redis://127.0.0.1:{free_port()}/0"


@pytest.fixture
def run(acme: World) -> Run:
    return make_run(acme, published(acme), "pending", status="running")


@pytest.fixture
def ended(acme: World) -> Run:
    return make_run(acme, published(acme), "completed", status="completed")


def write(world: World, run: Run, kind: str, **data: Any) -> None:
    with world.scope():
        RunEvent.objects.create(tenant=world.tenant, run_id=run.pk, type=kind, data=data)


def end(world: World, run: Run) -> None:
    with world.scope():
        Run.objects.filter(pk=run.pk).update(status="completed", finished_at=now())
        RunEvent.objects.create(tenant=world.tenant, run_id=run.pk, type="run.completed", data={})


def events_in(body: bytes) -> list[dict[str, str]]:
    blocks = [block for block in body.decode().split("\n\n") if block.startswith("id: ")]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


class Listener:
    """One request to the program, and what was answered so far."""

    def __init__(self, world: World, run: Run, key: str = "", **headers: str) -> None:
        sent = {
            "host": "localhost",
            "authorization": f"Bearer {key or world.key()}",
            "accept": STREAM,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        self.scope = {
            "type": "http",
            "method": "GET",
            "http_version": "1.1",
            "path": f"/api/v1/runs/{run.pk}/events",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.is_whole = False
        self._asked = False
        self.gone = asyncio.Event()
        self.may_send = asyncio.Event()
        self.may_send.set()

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await self.may_send.wait()
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
            return
        self.body += message["body"]
        self.is_whole = not message["more_body"]

    @property
    def types(self) -> list[str]:
        return [event["event"] for event in events_in(self.body)]

    async def until(self, condition: Callable[[], object], within: float = 20) -> None:
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def streams(redis_url: str = REDIS_URL, **options: float) -> AsyncIterator[EventStreams]:
    feed = Feed(redis_url)
    feed.start()
    site = WsgiSite(get_wsgi_application(), threads=4)
    yield EventStreams(site=site, feed=feed, **options)
    await feed.stop()


@asynccontextmanager
async def heard(program: EventStreams, listener: Listener) -> AsyncIterator[Listener]:
    """The listener while its stream is open; it hangs up at the end."""
    task = asyncio.ensure_future(program(listener.scope, listener.receive, listener.send))
    await listener.until(lambda: listener.body or task.done())
    yield listener
    listener.gone.set()
    await asyncio.wait_for(task, 10)


def played(scene: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await scene()

    asyncio.run(whole())


async def db(work: Callable[..., Any], *arguments: Any, **facts: Any) -> Any:
    """The work in a thread, which gives its connection back."""

    def done() -> Any:
        try:
            return work(*arguments, **facts)
        finally:
            connection.close()

    return await asyncio.to_thread(done)


async def say(run: Run, what: bytes = NEWS) -> None:
    async with redis.asyncio.Redis.from_url(REDIS_URL) as client:
        await client.publish(channel_of(run.pk), what)


def test_answer_opens_with_the_stored_events(acme: World, run: Run) -> None:
    write(acme, run, "agent.completed", step="outline", attempt=1, cost_nano=400_000)

    answer = get(acme.client(), f"runs/{run.pk}/events", accept=STREAM)

    *_, last = events_in(answer.content)
    told = json.loads(last["data"])
    assert answer["Content-Type"] == STREAM
    assert answer["X-Accel-Buffering"] == "no"
    assert last["event"] == told["type"] == "agent.completed"
    assert told.keys() == {"type", "timestamp", "data"}
    assert told["data"]["cost_usd"] == "0.0004"
    assert answer[FOLLOW].endswith(f" {last['id']}")


def test_reader_goes_on_behind_the_last_id_that_it_has(acme: World, run: Run) -> None:
    write(acme, run, "test.new")
    client, path = acme.client(), f"runs/{run.pk}/events"
    *_, before, new = events_in(get(client, path, accept=STREAM).content)

    for address, headers in (
        (path, {"last_event_id": before["id"]}),
        (f"{path}?after={before['id']}", {}),
        (f"{path}?after=0", {"last_event_id": before["id"]}),
    ):
        answer = get(client, address, accept=STREAM, **headers)
        assert events_in(answer.content) == [new]


def test_ended_run_is_told_to_its_end_and_then_204(acme: World, ended: Run) -> None:
    client, path = acme.client(), f"runs/{ended.pk}/events"

    whole = get(client, path, accept=STREAM)
    again = get(client, path, accept=STREAM, last_event_id=events_in(whole.content)[-1]["id"])

    assert FOLLOW not in whole
    assert events_in(whole.content)[-1]["event"] == "run.completed"
    assert (again.status_code, again.content) == (204, b"")


def test_question_for_the_head_alone_goes_no_further(acme: World, run: Run) -> None:
    answer = call(acme.client(), "HEAD", f"runs/{run.pk}/events", accept=STREAM)

    assert answer.status_code == 200
    assert FOLLOW not in answer


def test_stranger_is_told_nothing(globex: World, run: Run) -> None:
    assert get(globex.client(), f"runs/{run.pk}/events", accept=STREAM).status_code == 404
    assert get(globex.browser(), f"runs/{run.pk}/events", accept=STREAM).status_code == 404


def test_key_needs_the_scope(acme: World, run: Run) -> None:
    client = acme.client("workflows:read")

    assert get(client, f"runs/{run.pk}/events", accept=STREAM).status_code == 403


@pytest.mark.parametrize("last", ["x", "-1", str(2**63), "1 2"])
def test_bad_last_id_is_refused(acme: World, run: Run, last: str) -> None:
    answer = get(acme.client(), f"runs/{run.pk}/events", accept=STREAM, last_event_id=last)

    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"


def test_without_the_header_history_stays_json(acme: World, run: Run) -> None:
    assert get(acme.client(), f"runs/{run.pk}/events").json()["results"]


def test_nudge_brings_what_is_new(acme: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_feed, "POLL_SECONDS", 3600)
    key = acme.key()

    async def scene() -> None:
        async with streams() as program, heard(program, Listener(acme, run, key)) as listener:
            assert FOLLOW.lower().encode() not in listener.headers
            await listener.until(lambda: program.feed._subscriber)
            await db(write, acme, run, "test.live")
            while "test.live" not in listener.types:
                await say(run)
                await asyncio.sleep(0.02)

    played(scene)


def test_lost_subscription_comes_back_by_itself(
    acme: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_feed, "POLL_SECONDS", 3600)
    key = acme.key()

    async def scene() -> None:
        async with streams() as program, heard(program, Listener(acme, run, key)) as listener:
            await listener.until(lambda: program.feed._subscriber)
            assert await db(cut_clients, REDIS_URL, "pubsub")
            await db(write, acme, run, "test.live")
            while "test.live" not in listener.types:
                await say(run)
                await asyncio.sleep(0.02)

    played(scene)


def test_without_redis_events_are_late_but_come(acme: World, run: Run) -> None:
    key = acme.key()

    async def scene() -> None:
        async with (
            streams(NOBODY) as program,
            heard(program, Listener(acme, run, key)) as listener,
        ):
            await db(write, acme, run, "test.first")
            await listener.until(lambda: "test.first" in listener.types)
            await db(write, acme, run, "test.second")
            await listener.until(lambda: "test.second" in listener.types)

    played(scene)


def test_stream_ends_with_the_run(acme: World, run: Run) -> None:
    key = acme.key()

    async def scene() -> None:
        async with streams() as program, heard(program, Listener(acme, run, key)) as listener:
            assert not listener.is_whole
            await db(end, acme, run)
            await say(run)
            await listener.until(lambda: listener.is_whole)
            assert listener.types[-1] == "run.completed"

    played(scene)


def test_listeners_at_the_same_place_share_one_answer(acme: World, run: Run) -> None:
    key = acme.key()

    async def scene() -> None:
        async with streams() as program:
            listeners = [Listener(acme, run, key) for _ in range(20)]
            tasks = [
                asyncio.ensure_future(program(each.scope, each.receive, each.send))
                for each in listeners
            ]
            for each in listeners:
                await each.until(lambda each=each: each.body)
            await listeners[0].until(lambda: len(program.feed._waits) == 1)
            await db(write, acme, run, "test.live")
            await db(end, acme, run)
            await asyncio.wait_for(asyncio.gather(*tasks), 20)
            assert {tuple(each.types[-2:]) for each in listeners} == {
                ("test.live", "run.completed")
            }

    played(scene)


def test_who_hangs_up_leaves_nothing_behind(acme: World, run: Run) -> None:
    key = acme.key()

    async def scene() -> None:
        async with streams() as program:
            async with heard(program, Listener(acme, run, key)) as listener:
                await listener.until(lambda: program.feed._waits)
            assert not program.feed._waits
            assert not program.feed._runs

    played(scene)


def test_slow_listener_is_given_one_portion_at_a_time(acme: World, run: Run) -> None:
    key = acme.key()

    async def scene() -> None:
        async with streams() as program, heard(program, Listener(acme, run, key)) as slow:
            slow.may_send.clear()
            for number in range(3):
                await db(write, acme, run, f"test.{number}", pad="x" * 200_000)
                await say(run)
            await slow.until(lambda: not program.feed._waits)
            assert slow.types[-1] != "test.2"
            slow.may_send.set()
            await slow.until(lambda: slow.types[-3:] == ["test.0", "test.1", "test.2"])

    played(scene)


def test_broken_event_ends_the_streams_of_its_run_alone(acme: World, run: Run) -> None:
    other = make_run(acme, published(acme), "pending", status="running")
    key = acme.key()

    async def scene() -> None:
        async with (
            streams() as program,
            heard(program, Listener(acme, run, key)) as broken,
            heard(program, Listener(acme, other, key)) as sound,
        ):
            await db(write, acme, run, "test.broken", cost_nano="no number")
            await db(write, acme, other, "test.sound")
            await broken.until(lambda: broken.is_whole)
            await sound.until(lambda: "test.sound" in sound.types)

    played(scene)


def test_silence_is_broken_by_comments(acme: World, run: Run) -> None:
    key = acme.key()

    async def scene() -> None:
        async with (
            streams(heartbeat_seconds=0.05) as program,
            heard(program, Listener(acme, run, key)) as listener,
        ):
            await listener.until(lambda: listener.body.count(b": still here\n\n") > 2)

    played(scene)


def test_revoked_key_ends_the_stream(acme: World, run: Run) -> None:
    key = acme.key("runs:read")

    def revoke() -> None:
        with acme.scope():
            ApiKey.objects.filter(scopes=["runs:read"]).update(revoked_at=now())

    async def scene() -> None:
        async with (
            streams(heartbeat_seconds=0.05, recheck_seconds=0.1) as program,
            heard(program, Listener(acme, run, key)) as listener,
        ):
            await db(write, acme, run, "test.allowed")
            await listener.until(lambda: "test.allowed" in listener.types)
            await listener.until(lambda: listener.body.count(b"retry:") > 2)
            assert not listener.is_whole
            await db(revoke)
            await listener.until(lambda: listener.is_whole)
            assert listener.types.count("test.allowed") == 1

    played(scene)


def test_deleted_run_ends_the_stream(acme: World, run: Run) -> None:
    key = acme.key()

    def delete() -> None:
        with acme.scope(), connection.cursor() as cursor:
            cursor.execute("DELETE FROM run WHERE id = %s", [run.pk])

    async def scene() -> None:
        async with (
            streams(heartbeat_seconds=0.05, recheck_seconds=0.1) as program,
            heard(program, Listener(acme, run, key)) as listener,
        ):
            await db(delete)
            await listener.until(lambda: listener.is_whole)

    played(scene)
