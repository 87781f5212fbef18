"""The tools that every tenant may use."""

from agents_app.core.tools import Toolbox
from agents_app.tools.calculator import calculator
from agents_app.tools.echo import echo
from agents_app.tools.messages import read_messages, send_message, subscribe_messages
from agents_app.tools.shared_context import context_get, context_set
from agents_app.tools.text_stats import text_stats
from agents_app.tools.todos import todo_create, todo_delete, todo_list, todo_read, todo_update

BUILTIN_TOOLS = Toolbox(
    (
        *(calculator, echo, text_stats),
        *(send_message, read_messages, subscribe_messages),
        *(context_get, context_set),
        *(todo_create, todo_read, todo_update, todo_delete, todo_list),
    )
)
