"""A worker that is started with `--include` of this has an `echo` that may hang."""

import threading

from pydantic import JsonValue

from agents_app.core.tools import tool
from agents_app.tools.builtin import BUILTIN_TOOLS


@tool(name="echo")
def hanging_echo(value: JsonValue = None) -> JsonValue:
    """Give back the value that was passed in, unless it is the word."""
    if value == "hang":
        threading.Event().wait()
    return value


BUILTIN_TOOLS._tools["echo"] = hanging_echo
