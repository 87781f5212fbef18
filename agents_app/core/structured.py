"""Answers that must fit a JSON Schema."""

import json
import re
from itertools import islice

from jsonschema.exceptions import best_match
from pydantic import JsonValue

from agents_app.core import values
from agents_app.core.errors import AgentInvalidError, OutputInvalidError, UnusableSchemaError
from agents_app.core.json_schema import misfits, pointer_of
from agents_app.core.model import JsonSchema
from agents_app.core.schema_parts import shortened

# The best of so many is good enough, and a long list may be all wrong.
_MAX_COMPARED = 1_000
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)


def parse_output(text: str, schema: JsonSchema) -> JsonValue:
    """The answer as JSON that fits the schema, or OutputInvalidError with the place.

    A Markdown fence around the whole answer is taken off; anything else around it is an error.
    """
    fenced = _FENCE.match(text)
    try:
        output = values.parse(fenced.group(1) if fenced else text)
    except json.JSONDecodeError as error:
        raise OutputInvalidError(
            f"not JSON: {error.msg} at character {error.pos}; it begins {text[:40]!r}"
        ) from error
    except ValueError as error:
        raise OutputInvalidError(f"not JSON: {error}") from error
    check_output(output, schema)
    return output


def check_output(output: JsonValue, schema: JsonSchema) -> None:
    try:
        error = best_match(islice(misfits(output, schema), _MAX_COMPARED))
    except UnusableSchemaError as problem:
        raise AgentInvalidError(f"output schema: {problem}") from problem
    if error is not None:
        raise OutputInvalidError(shortened(error.message), pointer_of(error))
