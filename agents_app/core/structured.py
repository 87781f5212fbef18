"""Answers that must fit a JSON Schema."""

import json
import re
from collections.abc import Sequence
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
# Places in an answer where JSON may begin; a text may be full of brackets.
_MAX_PLACES = 200
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
_OPENING = re.compile(r"[{\[]")


def parse_output(text: str, schema: JsonSchema) -> JsonValue:
    """The answer as JSON that fits the schema, or OutputInvalidError with the place.

    Models without a mode for JSON talk around it, or fence it in: then the last object or list in
    the text counts that fits, since what comes before it are thoughts and drafts.
    """
    fenced = _FENCE.match(text)
    try:
        output = values.parse(fenced.group(1) if fenced else text)
    except ValueError as error:
        return _last_that_fits(_parts(text), schema, otherwise=_no_json(error, text))
    check_output(output, schema)
    return output


def _last_that_fits(
    parts: Sequence[JsonValue], schema: JsonSchema, *, otherwise: OutputInvalidError
) -> JsonValue:
    error = otherwise
    for place, part in enumerate(reversed(parts)):
        try:
            check_output(part, schema)
        except OutputInvalidError as misfit:
            error = error if place else misfit
        else:
            return part
    raise error


def _parts(text: str) -> list[JsonValue]:
    """The objects and lists that stand in a text, not those inside of others."""
    found: list[JsonValue] = []
    end = 0
    for opening in islice(_OPENING.finditer(text), _MAX_PLACES):
        if opening.start() < end:
            continue
        try:
            part, end = values.parse_from(text, opening.start())
        except ValueError:
            continue
        found.append(part)
    return found


def _no_json(error: ValueError, text: str) -> OutputInvalidError:
    if isinstance(error, json.JSONDecodeError):
        told = f"not JSON: {error.msg} at character {error.pos}; it begins {text[:40]!r}"
        return OutputInvalidError(told)
    return OutputInvalidError(f"not JSON: {error}")


def check_output(output: JsonValue, schema: JsonSchema) -> None:
    try:
        error = best_match(islice(misfits(output, schema), _MAX_COMPARED))
    except UnusableSchemaError as problem:
        raise AgentInvalidError(f"output schema: {problem}") from problem
    if error is not None:
        raise OutputInvalidError(shortened(error.message), pointer_of(error))
