"""The tools that come with the platform."""

from typing import Final

from agents_app.core.tool_sources import ToolSources
from agents_app.core.tools import Toolbox
from agents_app.tools.calculator import calculator
from agents_app.tools.echo import echo
from agents_app.tools.http_request import HttpRequest
from agents_app.tools.memory import forget, recall, remember
from agents_app.tools.messages import read_messages, send_message, subscribe_messages
from agents_app.tools.regex_search import regex_search
from agents_app.tools.shared_context import context_get, context_set
from agents_app.tools.sql_query import SqlQuery
from agents_app.tools.summarize_text import summarize_text
from agents_app.tools.text_completion import text_completion
from agents_app.tools.text_diff import text_diff
from agents_app.tools.text_stats import text_stats
from agents_app.tools.todos import todo_create, todo_delete, todo_list, todo_read, todo_update
from agents_app.tools.web_fetch import web_fetch
from agents_app.tools.web_page import web_page
from agents_app.tools.web_search import WebSearch

BUILTIN_TOOLS: Final = Toolbox(
    (
        *(calculator, echo, regex_search, summarize_text, text_diff, text_stats),
        *(remember, recall, forget),
        *(send_message, read_messages, subscribe_messages),
        *(context_get, context_set),
        *(todo_create, todo_read, todo_update, todo_delete, todo_list),
        *(web_fetch, web_page, text_completion),
    )
)
# Those that depend on what a tenant has set.
BUILTIN_FACTORIES: Final = ToolSources((WebSearch(), HttpRequest(), SqlQuery()))
