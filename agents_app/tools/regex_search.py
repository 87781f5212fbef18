import re
from itertools import islice
from typing import Annotated, Any

from pydantic import Field

from agents_app.core.errors import ToolFailedError
from agents_app.core.tools import tool
from agents_app.sandbox.process import in_process

_MOST_MATCHES = 200


# Python's engine backtracks without end on some patterns, and holds every thread meanwhile.
@in_process(memory_mb=256)
@tool(timeout_seconds=10)
def regex_search(
    pattern: Annotated[str, Field(min_length=1, max_length=1_000)],
    text: Annotated[str, Field(max_length=2_000_000)],
    ignore_case: bool = False,
    max_matches: Annotated[int, Field(ge=1, le=_MOST_MATCHES)] = 50,
) -> dict[str, Any]:
    """Find what matches a regular expression of Python's, line by line for ^ and $.

    Gives `matches`, each with `start`, `end`, `text`, `groups` and `named`, and `is_complete`,
    which is false if there are more.
    """
    try:
        compiled = re.compile(pattern, re.MULTILINE | (re.IGNORECASE if ignore_case else 0))
    except (re.error, RecursionError, OverflowError) as error:
        raise ToolFailedError("regex_search", f"the pattern: {error}") from error
    found = list(islice(compiled.finditer(text), max_matches + 1))
    return {
        "matches": [
            {
                "start": match.start(),
                "end": match.end(),
                "text": match.group(),
                "groups": list(match.groups()),
                "named": match.groupdict(),
            }
            for match in found[:max_matches]
        ],
        "is_complete": len(found) <= max_matches,
    }
