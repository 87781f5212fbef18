"""Memory in the database: safe under concurrency, fenced, found by its words."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from agents_app.core.errors import MemoryConflictError, MemoryRefusedError
from agents_app.core.memory import ContextValue, MemoryScope, Note, Remembered, Wanted
from agents_app.models import MemoryEntry
from agents_app.services import memory
from orchestrator.execution import engine_db, gateway, tool_rows
from orchestrator.execution.errors import LeaseLostError
from orchestrator.execution.leases import Lease
from orchestrator.execution.memory_rows import MemoryRows
from orchestrator.models import LlmCall
from orchestrator.services import agent_runs
from orchestrator.services.advance import advance
from orchestrator.services.sweep import sweep
from tenants.kernel.models import uuid7
from tests.e2e.stories import echo, start
from tests.engine_driver import drain, step_of
from tests.integration.orchestrator.test_engine_late_answers import EXPIRE, take
from tests.integration.orchestrator.test_engine_memory import Reader
from tests.integration.orchestrator.test_engine_react import begin, die
from tests.world import World

AGENT, RUN, TENANT = MemoryScope.AGENT, MemoryScope.RUN, MemoryScope.TENANT


def attempt(world: World, run_id: UUID | None = None, agent: str = "writer") -> MemoryRows:
    """The memory of an attempt that is under way."""
    if run_id is None:
        run_id = start(world, {"a": echo(value=1)})
        advance(world.tenant.id, run_id)
    claim = take(world, step_of(world, run_id, "a").id)
    return MemoryRows(claim, Lease(claim.agent_run_id, claim.attempt), agent=agent)


@pytest.fixture
def rows(acme: World) -> MemoryRows:
    return attempt(acme)


def note(rows: MemoryRows, text: str, key: str | None = None, **more: Any) -> int:
    return rows.keep(more.pop("scope", TENANT), Note(note=text), call_id=uuid7(), key=key, **more)


def texts(rows: MemoryRows, query: str = "", **more: Any) -> list[str]:
    found = rows.search(query, scopes=more.pop("scopes", list(MemoryScope)), **more)
    return [each.content.text for each in found]


def entries(world: World) -> list[MemoryEntry]:
    with world.scope():
        return list(MemoryEntry.objects.order_by("id"))


def test_it_is_read_as_it_was_kept(rows: MemoryRows) -> None:
    rows.keep(AGENT, ContextValue(value={"b": [1, None], "a": "x"}), call_id=uuid7(), key="k")

    found = rows.read(AGENT, "k")

    assert found is not None
    assert (found.version, found.content) == (1, ContextValue(value={"b": [1, None], "a": "x"}))
    assert rows.read(TENANT, "k") is None


def test_key_is_written_over_by_whoever_knows_its_version(rows: MemoryRows) -> None:
    assert note(rows, "one", "k", expected_version=0) == 1
    assert note(rows, "two", "k", expected_version=1) == 2
    for stale in (0, 1, 7):
        with pytest.raises(MemoryConflictError, match="at version 2"):
            note(rows, "three", "k", expected_version=stale)
    assert texts(rows) == ["two"]


def test_of_many_who_write_at_once_each_is_counted(acme: World, rows: MemoryRows) -> None:
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda n: note(rows, str(n), "k"), range(24)))

    assert sorted(versions) == list(range(1, 25))
    assert len(entries(acme)) == 1


def test_of_many_who_know_the_same_version_one_wins(rows: MemoryRows) -> None:
    def claim(n: int) -> bool:
        try:
            note(rows, str(n), "k", expected_version=0)
        except MemoryConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(claim, range(16)))

    assert won.count(True) == 1


def test_call_that_is_told_again_is_made_once(rows: MemoryRows) -> None:
    call_id = uuid7()
    told = [rows.keep(TENANT, Note(note="mine"), call_id=call_id, key="k") for _ in range(2)]
    note(rows, "theirs", "k")
    rows.keep(TENANT, Note(note="mine"), call_id=call_id, key="k")

    assert told == [1, 1]
    assert texts(rows) == ["theirs"]


def test_forgetting_told_again_does_not_forget_what_came_after(rows: MemoryRows) -> None:
    call_id = uuid7()
    note(rows, "old", "k")

    assert rows.forget(TENANT, "k", call_id=call_id)
    assert texts(rows) == []
    assert note(rows, "new", "k", expected_version=0) == 1
    assert rows.forget(TENANT, "k", call_id=call_id)

    assert texts(rows) == ["new"]
    assert not rows.forget(TENANT, "other", call_id=uuid7())


def test_each_finds_its_own_and_what_is_shared(acme: World, globex: World) -> None:
    writer, reader, stranger = attempt(acme), attempt(acme, agent="reader"), attempt(globex)
    for scope in MemoryScope:
        note(writer, f"of the {scope}", scope=scope)

    assert {*texts(writer)} == {"of the run", "of the agent", "of the tenant"}
    assert texts(reader) == ["of the tenant"]
    assert texts(stranger, "tenant") == []


def test_agent_that_is_not_saved_has_no_memory_of_its_own(acme: World) -> None:
    rows = attempt(acme, agent="")

    with pytest.raises(MemoryRefusedError, match="only a saved agent"):
        note(rows, "x", scope=AGENT)
    assert texts(rows) == []


def test_best_match_comes_first(rows: MemoryRows) -> None:
    for text in ("Paper is white.", "Ink is black.", "Black ink, black ink.", "Nothing at all."):
        note(rows, text)

    assert texts(rows, "What colour is black ink?")[:2] == [
        "Black ink, black ink.",
        "Ink is black.",
    ]
    assert "Nothing at all." not in texts(rows, "ink")
    assert texts(rows, limit=1) == ["Nothing at all."]


class ByKey:
    """Finds the entries whose key a query names."""

    def __init__(self, fetch: memory.Fetch) -> None:
        self._fetch = fetch

    def found(self, wanted: Wanted) -> list[Remembered]:
        query = """
        SELECT id, scope, key, kind, content, version, updated_at FROM memory_entry
         WHERE (scope, owner) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
           AND key = ANY (%s) LIMIT %s
        """
        scopes, owners = zip(*wanted.places, strict=True)
        words = wanted.query.split()
        found = self._fetch(query, [[*map(str, scopes)], [*owners], words, wanted.limit])
        return memory.readable(self._fetch, found)


def test_another_way_of_searching_takes_the_place_of_full_text(
    acme: World, globex: World, rows: MemoryRows, settings: Any
) -> None:
    note(rows, "Ink is black.", "ink")
    note(attempt(globex), "Ink is blue.", "ink")
    note(rows, "ink of the agent", "paper", scope=AGENT)
    settings.MUSTER_MEMORY_SEARCHER = f"{__name__}.ByKey"

    assert texts(rows, "which ink") == ["Ink is black."]
    assert texts(rows, "paper", scopes=[TENANT]) == []
    assert texts(attempt(acme, agent="reader"), "paper ink") == ["Ink is black."]


def test_way_of_searching_that_is_not_there_is_told_at_the_start(settings: Any) -> None:
    settings.MUSTER_MEMORY_SEARCHER = "nowhere.Vectors"

    with pytest.raises(ImproperlyConfigured, match=r"MUSTER_MEMORY_SEARCHER.*nowhere"):
        apps.get_app_config("agents_app").ready()


@pytest.mark.parametrize("query", ["'", "\\", "a' | b:* & !c", "\x00", "<->", "(", "é 日本 \ud800"])
def test_no_query_breaks_the_search(rows: MemoryRows, query: str) -> None:
    note(rows, "it's a\\b 日本 'quoted'")

    texts(rows, query)


def test_attempt_that_was_given_up_writes_nothing(acme: World) -> None:
    late = attempt(acme)
    agent_run = step_of(acme, late._claim.run_id, "a")
    engine_db.one(EXPIRE, agent_run.id, alias="system")
    sweep()
    heir = attempt(acme, late._claim.run_id)

    with pytest.raises(LeaseLostError):
        note(late, "late")
    note(heir, "heir")

    assert [each.text for each in entries(acme)] == ["heir"]


def test_entry_that_cannot_be_read_is_set_aside(acme: World, rows: MemoryRows) -> None:
    note(rows, "sound")
    note(rows, "broken", "k")
    with acme.scope():
        MemoryEntry.objects.filter(key="k").update(content={"note": 7})

    assert texts(rows) == ["sound"]

    broken = next(each for each in entries(acme) if each.key == "k")
    assert broken.fault == "note: Input should be a valid string"
    assert rows.read(TENANT, "k") is None
    assert note(rows, "mended", "k") == 2
    assert {*texts(rows)} == {"sound", "mended"}


def test_memory_is_bounded(rows: MemoryRows, settings: Any) -> None:
    settings.MUSTER_MEMORY_ENTRIES = 2
    note(rows, "one", "k")
    note(rows, "two")

    with pytest.raises(MemoryRefusedError, match="full with 2 entries"):
        note(rows, "three")
    assert note(rows, "one again", "k") == 2

    rows.forget(TENANT, "k", call_id=uuid7())
    note(rows, "three")
    with pytest.raises(MemoryRefusedError, match="full with 2 entries"):
        note(rows, "one after all", "k")
    assert {*texts(rows)} == {"two", "three"}


def test_keeping_and_forgetting_does_not_fill_the_table(
    acme: World, rows: MemoryRows, settings: Any
) -> None:
    settings.MUSTER_MEMORY_ENTRIES = 2
    for key in "abcd":
        note(rows, "soon forgotten", key)
        rows.forget(TENANT, key, call_id=uuid7())

    with pytest.raises(MemoryRefusedError, match="too many entries of this memory were forgotten"):
        note(rows, "one more", "e")
    assert note(rows, "over one", "a") == 1
    assert len(entries(acme)) == 4


def test_what_is_over_is_not_found_and_goes(acme: World, rows: MemoryRows) -> None:
    note(rows, "for a day", "k", days=1)
    with acme.scope():
        MemoryEntry.objects.update(expires_at="2020-01-01T00:00Z")

    assert texts(rows) == []
    assert memory.purge_expired() == 1
    assert entries(acme) == []


def test_agents_remember_from_run_to_run(acme: World) -> None:
    arguments = {"note": "The vault is blue.", "whose": "tenant"}
    script = [{"tool_calls": [{"name": "remember", "arguments": arguments}]}, {"text": "Kept."}]
    agent = {"type": "react", "provider": "simulated", "model": "sim", "tools": ["remember"]}
    first = start(acme, {"a": {"agent": agent, "prompt": "Go.", "parameters": {"script": script}}})
    advance(acme.tenant.id, first)
    drain(acme, first)
    thinking = {"type": "prompt", "provider": "simulated", "model": "sim", "memory": {"recall": 3}}
    second = start(acme, {"a": {"agent": thinking, "prompt": "Which vault?"}})
    advance(acme.tenant.id, second)
    drain(acme, second)

    with acme.scope():
        asked = LlmCall.objects.get(run_id=second).request["messages"][0]["content"]
    assert asked.startswith("Which vault?")
    assert "The vault is blue." in asked


def test_wherever_a_worker_dies_a_note_is_kept_once(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader()
    for module in (agent_runs, gateway, tool_rows):
        monkeypatch.setattr(module, "crash_here", reader.crash_here)
    call = {"name": "remember", "arguments": {"note": "x", "whose": "tenant"}}
    parameters = {"script": [{"tool_calls": [call]}, {"text": "Kept."}]}
    drain(acme, begin(acme, tools=["remember"], parameters=parameters))
    points = list(reader.passed)
    assert "after_tool" in points

    for dies_at, point in enumerate(points, start=1):
        reader.dies_at = dies_at
        reader.passed.clear()
        run_id = begin(acme, tools=["remember"], parameters=parameters)
        die(acme, run_id)

        assert drain(acme, run_id).status == "completed"
        kept = [each for each in entries(acme) if each.run_id == run_id]
        assert [each.version for each in kept] == [1], point
