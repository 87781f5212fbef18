"""Answers that must fit a JSON Schema."""

import json
import re

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from pydantic import JsonValue
from referencing import Registry
from referencing.exceptions import Unresolvable

from agents_app.core import values
from agents_app.core.errors import AgentInvalidError, OutputInvalidError
from agents_app.core.model import JsonSchema

_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
_SHOWN = 200


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
        # An empty registry of our own: by default the library would fetch remote references.
        validator = Draft202012Validator(schema, registry=Registry())
        error = best_match(validator.iter_errors(output))
    except Unresolvable as problem:
        raise AgentInvalidError(f"output schema: cannot resolve {problem.ref!r}") from problem
    except RecursionError:
        raise AgentInvalidError("output schema: refers to itself without end") from None
    if error is not None:
        raise OutputInvalidError(_shortened(error.message), _pointer(error))


def schema_problem(schema: JsonSchema) -> str | None:
    """What is wrong with an output schema itself, or None."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"{_pointer(error) or '/'}: {_shortened(error.message)}"
    except RecursionError:
        return "nested too deeply"
    return None


def _pointer(error: ValidationError | SchemaError) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in error.path)


def _shortened(message: str) -> str:
    # The library quotes the offending value, which can be the whole answer.
    if len(message) <= _SHOWN:
        return message
    half = _SHOWN // 2
    return f"{message[:half]} ... {message[-half:]}"
