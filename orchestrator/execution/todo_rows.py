"""The todos of a run in the database."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from agents_app.core.errors import TodoRefusedError
from agents_app.core.todos import Todo, TodoDraft, TodoStatus
from orchestrator.execution import engine_db
from orchestrator.execution.claims import Claim
from orchestrator.execution.fenced import Fenced
from orchestrator.execution.leases import Lease

MAX_TODOS: Final = 1_000
MAX_NEEDS: Final = 50
_WRITE = "SELECT * FROM muster_write_todo(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::integer[], %s)"
_READ = "SELECT * FROM muster_todos(%s, %s, %s)"
_MAX_NUMBER: Final = 2**31 - 1
_REFUSALS: Final = {
    "full": f"the run has {MAX_TODOS:,} todos, the most that it may have",
    "no_todo": "there is no todo with this id",
    "needs_unknown": "it needs a todo that does not exist",
    "needs_itself": "todos may not need each other in a circle",
}


class TodoRows:
    """The todos of a run, as the agent of one attempt may read and write them."""

    def __init__(self, claim: Claim, lease: Lease) -> None:
        self._fenced = Fenced(claim, lease)
        self._claim = claim

    def create(self, draft: TodoDraft, *, call_id: UUID) -> Todo:
        if draft.text is None:
            raise TodoRefusedError("invalid", "a todo needs a text")
        return self._write(None, draft, call_id=call_id)

    def read(self, todo_id: int) -> Todo:
        found = self._read(_number(todo_id))
        if not found:
            raise TodoRefusedError("no_todo", _REFUSALS["no_todo"])
        return found[0]

    def update(self, todo_id: int, draft: TodoDraft, *, call_id: UUID) -> Todo:
        return self._write(_number(todo_id), draft, call_id=call_id)

    def delete(self, todo_id: int, *, call_id: UUID) -> None:
        self._write(_number(todo_id), TodoDraft(), call_id=call_id, is_gone=True)

    def all(self) -> Sequence[Todo]:
        return self._read(None)

    def _read(self, number: int | None) -> list[Todo]:
        claim = self._claim
        rows = self._fenced.persistently(
            lambda: engine_db.many(_READ, claim.tenant_id, claim.run_id, number)
        )
        return [_todo(row["todo"]) for row in rows]

    def _write(
        self, number: int | None, draft: TodoDraft, *, call_id: UUID, is_gone: bool = False
    ) -> Todo:
        claim, needs = self._claim, _needs(draft)
        if fault := draft.fault():
            raise TodoRefusedError("invalid", fault)
        row = self._fenced.row(
            _WRITE,
            *(claim.tenant_id, claim.agent_run_id, claim.attempt, call_id, number, is_gone),
            *(draft.text, draft.status, draft.priority, needs, MAX_TODOS),
        )
        if refusal := _REFUSALS.get(row["verdict"]):
            raise TodoRefusedError(row["verdict"], refusal)
        return _todo(row["effect"])


def _number(todo_id: int) -> int:
    # Nothing else is a number in the database.
    if not 1 <= todo_id <= _MAX_NUMBER:
        raise TodoRefusedError("no_todo", _REFUSALS["no_todo"])
    return todo_id


def _needs(draft: TodoDraft) -> list[int] | None:
    if draft.needs is None:
        return None
    if len(draft.needs) > MAX_NEEDS:
        raise TodoRefusedError("invalid", f"a todo needs at most {MAX_NEEDS} others")
    if not all(1 <= number <= _MAX_NUMBER for number in draft.needs):
        raise TodoRefusedError("needs_unknown", _REFUSALS["needs_unknown"])
    return list(dict.fromkeys(draft.needs))


def _todo(row: Mapping[str, Any]) -> Todo:
    return Todo(
        id=row["id"],
        text=row["text"],
        status=TodoStatus(row["status"]),
        priority=row["priority"],
        needs=tuple(row["needs"]),
        created_at=datetime.fromisoformat(row["created_at"]),
        updated_at=datetime.fromisoformat(row["updated_at"]),
    )
