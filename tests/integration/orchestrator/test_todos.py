"""Todos of a run: agents share them, and each call writes once."""

import threading

import pytest
from uuid_utils.compat import uuid7

from agents_app.core.errors import TodoRefusedError
from agents_app.core.todos import TodoDraft, TodoStatus
from orchestrator.execution import engine_db, todo_rows
from orchestrator.execution.errors import LeaseLostError
from orchestrator.models import Todo
from orchestrator.services.sweep import sweep
from tests.integration.orchestrator.test_engine_late_answers import EXPIRE
from tests.talk import Talker, take, talkers, working_run
from tests.world import World


def make(agent: Talker, text: str, **given: object) -> int:
    draft = TodoDraft(text=text, **given)  # type: ignore[arg-type]
    return agent.todos.create(draft, call_id=uuid7()).id


def change(agent: Talker, todo_id: int, **given: object) -> None:
    agent.todos.update(todo_id, TodoDraft(**given), call_id=uuid7())  # type: ignore[arg-type]


def test_agents_share_the_todos_of_their_run(acme: World) -> None:
    a, b = talkers(acme, "a", "b")

    milk, bread = make(a, "buy milk"), make(b, "buy bread", priority=8, needs=(1,))

    assert (milk, bread) == (1, 2)
    assert a.todos.all() == b.todos.all()
    found = a.todos.read(bread)
    assert (found.text, found.status, found.priority) == ("buy bread", TodoStatus.PENDING, 8)
    assert (found.needs, found.completed) == ((milk,), False)


def test_update_changes_what_it_names_alone(acme: World) -> None:
    (a,) = talkers(acme, "a")
    milk = make(a, "buy milk", priority=7)

    change(a, milk, status=TodoStatus.COMPLETED)

    found = a.todos.read(milk)
    assert (found.text, found.completed, found.priority) == ("buy milk", True, 7)
    assert found.updated_at > found.created_at


def test_deleted_todo_is_gone_and_its_number_is_not_given_again(acme: World) -> None:
    (a,) = talkers(acme, "a")
    make(a, "x")
    make(a, "y", needs=(1,))

    a.todos.delete(1, call_id=uuid7())

    assert [(todo.id, todo.needs) for todo in a.todos.all()] == [(2, ())]
    assert make(a, "z") == 3
    with pytest.raises(TodoRefusedError):
        a.todos.read(1)


def test_call_that_is_made_again_does_nothing_twice(acme: World) -> None:
    run_id = working_run(acme, "a")
    a = Talker(take(acme, run_id, "a"))
    making, going = uuid7(), uuid7()
    draft = TodoDraft(text="buy milk")
    first = a.todos.create(draft, call_id=making)
    make(a, "gone")
    a.todos.delete(2, call_id=going)
    engine_db.one(EXPIRE, a.claim.agent_run_id, alias="system")
    sweep()

    again = Talker(take(acme, run_id, "a"))

    assert again.todos.create(draft, call_id=making) == first
    again.todos.delete(2, call_id=going)
    assert [todo.id for todo in again.todos.all()] == [1]
    with pytest.raises(LeaseLostError):
        make(a, "too late")


@pytest.mark.parametrize(
    "given",
    [
        {"text": ""},
        {"text": " "},
        {"text": "x" * 2_001},
        {"text": "x", "priority": 11},
        {"text": "x", "needs": (9,)},
        {"text": "x", "needs": (2**40,)},
        {"text": "x", "needs": tuple(range(1, 60))},
    ],
)
def test_todo_that_makes_no_sense_is_refused(acme: World, given: dict) -> None:
    (a,) = talkers(acme, "a")

    with pytest.raises(TodoRefusedError):
        make(a, **given)

    assert a.todos.all() == []


@pytest.mark.parametrize("todo_id", [0, -1, 5, 2**40])
def test_todo_that_is_not_there_is_refused(acme: World, todo_id: int) -> None:
    (a,) = talkers(acme, "a")

    for work in (lambda: a.todos.read(todo_id), lambda: change(a, todo_id, text="x")):
        with pytest.raises(TodoRefusedError, match="no todo"):
            work()


def test_todos_that_need_each_other_are_refused(acme: World) -> None:
    (a,) = talkers(acme, "a")
    for number in range(3):
        make(a, "x", needs=(number,) if number else ())

    for needed in (1, 2, 3):
        with pytest.raises(TodoRefusedError, match="circle"):
            change(a, 1, needs=(needed,))


def test_run_has_so_many_todos(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(todo_rows, "MAX_TODOS", 1)
    (a,) = talkers(acme, "a")
    make(a, "x")

    with pytest.raises(TodoRefusedError):
        make(a, "y")

    a.todos.delete(1, call_id=uuid7())
    assert make(a, "y") == 2


def test_many_agents_make_todos_at_once(acme: World) -> None:
    agents = talkers(acme, *(f"t{number}" for number in range(6)))
    threads = [
        threading.Thread(target=lambda a=a: [make(a, str(n)) for n in range(5)]) for a in agents
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [todo.id for todo in agents[0].todos.all()] == list(range(1, 31))


def test_another_run_or_tenant_has_todos_of_its_own(acme: World, globex: World) -> None:
    a = talkers(acme, "a")[0]
    others = [talkers(acme, "a")[0], talkers(globex, "a")[0]]

    make(a, "buy milk")

    for other in others:
        assert other.todos.all() == []
        with pytest.raises(TodoRefusedError):
            change(other, 1, text="stolen")
    with globex.scope():
        assert not Todo.objects.exists()
