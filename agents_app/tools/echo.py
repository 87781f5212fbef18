from pydantic import JsonValue

from agents_app.core.tools import tool


@tool(is_instant=True)
def echo(value: JsonValue = None) -> JsonValue:
    """Give back the value that was passed in, unchanged."""
    return value
