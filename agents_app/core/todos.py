"""The port to the todos of a run, which all of its agents share."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol
from uuid import UUID

from agents_app.core.errors import TodoRefusedError

MAX_TEXT_LENGTH: Final = 2_000


class TodoStatus(StrEnum):
    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Todo:
    """`id` counts from 1 in each run. It needs the todos in `needs` to be completed first."""

    id: int
    text: str
    status: TodoStatus
    priority: int
    needs: tuple[int, ...]
    created_at: datetime
    updated_at: datetime

    @property
    def completed(self) -> bool:
        return self.status is TodoStatus.COMPLETED


@dataclass(frozen=True, slots=True, kw_only=True)
class TodoDraft:
    """What is to be written of a todo; None leaves it as it is, or as it usually begins."""

    text: str | None = None
    status: TodoStatus | None = None
    priority: int | None = None
    needs: tuple[int, ...] | None = None

    def fault(self) -> str | None:
        if self.text is not None and not 1 <= len(self.text.strip()) <= MAX_TEXT_LENGTH:
            return f"the text has 1 to {MAX_TEXT_LENGTH:,} characters"
        if self.priority is not None and not 0 <= self.priority <= 10:
            return "priority is a whole number from 0 to 10"
        return None


class TodoStore(Protocol):
    """The todos of one run.

    `call_id` names what is done: a call that is made again, since its worker died, does nothing
    twice and gives what it gave. Refusals are TodoRefusedError; what else it raises ends the
    attempt.
    """

    def create(self, draft: TodoDraft, *, call_id: UUID) -> Todo: ...

    def read(self, todo_id: int) -> Todo: ...

    def update(self, todo_id: int, draft: TodoDraft, *, call_id: UUID) -> Todo: ...

    def delete(self, todo_id: int, *, call_id: UUID) -> None: ...

    def all(self) -> Sequence[Todo]:
        """In the order they were made."""
        ...


class _NoTodos:
    def create(self, draft: TodoDraft, *, call_id: UUID) -> Todo:
        raise _no_todos()

    def read(self, todo_id: int) -> Todo:
        raise _no_todos()

    def update(self, todo_id: int, draft: TodoDraft, *, call_id: UUID) -> Todo:
        raise _no_todos()

    def delete(self, todo_id: int, *, call_id: UUID) -> None:
        raise _no_todos()

    def all(self) -> Sequence[Todo]:
        return ()


def _no_todos() -> TodoRefusedError:
    return TodoRefusedError("no_todos", "there is no run to keep todos for")


NO_TODOS: Final[TodoStore] = _NoTodos()
