"""Request bodies. What passes here can be stored: plain JSON, neither huge nor deep."""

import json
import math
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser, JSONParser

from orchestrator.core.jsonvalue import Json, foreign_problem
from orchestrator.core.yaml_io import MAX_BYTES, load_text


class TooLargeError(APIException):
    status_code = 413
    default_code = "too_large"
    default_detail = f"A workflow has at most {MAX_BYTES:,} bytes; split it."


class StrictJSONParser(JSONParser):
    """JSON in UTF-8, every key once, numbers finite, no character that a database refuses."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            value = json.loads(
                stream.read().decode("utf-8-sig"),
                object_pairs_hook=_unique,
                parse_constant=_refuse,
                parse_float=_finite,
            )
        except RecursionError:
            raise ParseError("The body is nested too deeply.") from None
        except UnicodeDecodeError:
            raise ParseError("The body is not UTF-8 text.") from None
        except ValueError as error:
            raise ParseError(f"The body is not valid JSON: {error}") from None
        problem = foreign_problem(value)
        if problem:
            raise ParseError(f"{problem.message}.")
        return value


class SpecParser(BaseParser):
    """A workflow spec as YAML, of which JSON is a part. SpecSyntaxError says line and column."""

    media_type = "application/yaml"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Json]:
        text = stream.read()
        if len(text) > MAX_BYTES:
            raise TooLargeError
        return load_text(text)


class JsonSpecParser(SpecParser):
    media_type = "application/json"


class OtherYamlParser(SpecParser):
    media_type = "application/x-yaml"


class TextYamlParser(SpecParser):
    media_type = "text/yaml"


SPEC_PARSERS = (JsonSpecParser, SpecParser, OtherYamlParser, TextYamlParser)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return mapping


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)
