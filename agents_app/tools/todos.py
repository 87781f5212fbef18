"""The todos of a run, which its agents share."""

from typing import Annotated, Any

from pydantic import Field

from agents_app.core import values
from agents_app.core.todos import MAX_TEXT_LENGTH, Todo, TodoDraft, TodoStatus
from agents_app.core.tools import MAX_RESULT_BYTES, ToolContext, tool

_MARGIN_BYTES = 1024
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH)]
Priority = Annotated[int, Field(ge=0, le=10)]
Needs = Annotated[list[int], Field(max_length=50)]


@tool()
def todo_create(
    context: ToolContext, text: Text, priority: Priority = 5, needs: Needs | None = None
) -> dict[str, Any]:
    """Add a todo to those of this run. `needs` are ids of todos that have to be completed first."""
    draft = TodoDraft(text=text, priority=priority, needs=tuple(needs or ()))
    return _told(context.todos.create(draft, call_id=context.call_id))


@tool()
def todo_read(context: ToolContext, id: int) -> dict[str, Any]:
    """Read one todo of this run."""
    return _told(context.todos.read(id))


@tool()
def todo_update(
    context: ToolContext,
    id: int,
    text: Text | None = None,
    status: TodoStatus | None = None,
    completed: bool | None = None,
    priority: Priority | None = None,
    needs: Needs | None = None,
) -> dict[str, Any]:
    """Change a todo of this run; what you leave out stays as it is."""
    if completed is not None and status is None:
        status = TodoStatus.COMPLETED if completed else TodoStatus.PENDING
    draft = TodoDraft(
        text=text,
        status=status,
        priority=priority,
        needs=None if needs is None else tuple(needs),
    )
    return _told(context.todos.update(id, draft, call_id=context.call_id))


@tool()
def todo_delete(context: ToolContext, id: int) -> dict[str, Any]:
    """Take a todo away from those of this run."""
    context.todos.delete(id, call_id=context.call_id)
    return {"id": id, "deleted": True}


@tool()
def todo_list(context: ToolContext, status: TodoStatus | None = None) -> dict[str, Any]:
    """List the todos of this run, or those with a status, and how many of all are completed."""
    todos = context.todos.all()
    done = sum(todo.completed for todo in todos)
    wanted = [_told(todo) for todo in todos if status in (None, todo.status)]
    shown = _fitting(wanted)
    return {
        "todos": shown,
        "left_out": len(wanted) - len(shown),
        "completed": done,
        "total": len(todos),
        "percent": round(100 * done / len(todos)) if todos else 0,
    }


def _told(todo: Todo) -> dict[str, Any]:
    return {
        "id": todo.id,
        "text": todo.text,
        "status": todo.status.value,
        "completed": todo.completed,
        "priority": todo.priority,
        "needs": list(todo.needs),
        "created_at": todo.created_at.isoformat(),
        "updated_at": todo.updated_at.isoformat(),
    }


def _fitting(todos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many of the first as a result may have."""
    left = MAX_RESULT_BYTES - _MARGIN_BYTES
    for number, todo in enumerate(todos):
        left -= values.json_size(todo) + 1
        if left < 0:
            return todos[:number]
    return todos
