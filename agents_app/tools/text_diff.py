from difflib import unified_diff
from typing import Annotated, Any

from pydantic import Field

from agents_app.core.tools import tool
from agents_app.sandbox.process import in_process

_Text = Annotated[str, Field(max_length=1_000_000)]


# Comparing takes time with the square of the lines that differ.
@in_process(memory_mb=256)
@tool(timeout_seconds=20)
def text_diff(
    before: _Text, after: _Text, context_lines: Annotated[int, Field(ge=0, le=20)] = 3
) -> dict[str, Any]:
    """Compare two texts line by line.

    Gives `diff` in the unified form, empty if they are alike, and how many lines were `added`
    and `removed`.
    """
    lines = list(
        unified_diff(
            before.splitlines(), after.splitlines(), "before", "after", lineterm="", n=context_lines
        )
    )
    changed = lines[2:]
    return {
        "diff": "\n".join(lines),
        "added": sum(line.startswith("+") for line in changed),
        "removed": sum(line.startswith("-") for line in changed),
    }
