"""The small values of a workflow spec: names, durations, money, text with and without variables."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from orchestrator.core.jsonvalue import Json

MAX_DURATION_SECONDS = 366 * 24 * 3600
MAX_METADATA_KEYS = 50
MAX_TEXT = 200_000

_DURATION = re.compile(r"(?=\d)(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", re.ASCII)
_MONEY = re.compile(r"(?:0|[1-9]\d{0,8})(?:\.\d{1,9})?", re.ASCII)


class Duration(str):
    """A time span as its author wrote it, such as `30s` or `1h30m`; never zero."""

    __slots__ = ()

    @property
    def seconds(self) -> int:
        hours, minutes, seconds = (int(part or 0) for part in _parts(self))
        return hours * 3600 + minutes * 60 + seconds

    @classmethod
    def parse(cls, text: str) -> Duration:
        duration = cls(text)
        if not 0 < duration.seconds <= MAX_DURATION_SECONDS:
            raise ValueError("A duration is more than 0s and at most 366 days")
        return duration

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: object, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_duration)


def _parts(text: str) -> tuple[str | None, ...]:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("Write a duration such as 30s, 10m, 24h or 1h30m")
    return match.groups()


def _duration(value: object) -> Duration:
    if not isinstance(value, str):
        raise PydanticCustomError("duration", "Write a duration such as 30s, 10m, 24h or 1h30m")
    try:
        return Duration.parse(value)
    except ValueError as error:
        raise PydanticCustomError("duration", str(error)) from error


class Money(Decimal):
    """An amount in USD, exact and written as its author wrote it."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: object, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_money)


def _money(value: object) -> Money:
    if isinstance(value, str) and _MONEY.fullmatch(value):
        return Money(value)
    raise PydanticCustomError("money", 'Write an amount in USD as text in quotes, such as "0.50"')


def _literal(value: str) -> str:
    if "${" in value:
        raise PydanticCustomError(
            "variable_not_allowed", "Variables are not allowed here; put them into the prompt"
        )
    return value


NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"
SLUG_PATTERN = r"^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$"
REF_PATTERN = SLUG_PATTERN.removesuffix("$") + "(?:@[1-9][0-9]{0,5})?$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Slug = Annotated[str, Field(pattern=SLUG_PATTERN)]
WorkflowRef = Annotated[str, Field(pattern=REF_PATTERN)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
LiteralText = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_literal)]
Label = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_literal)]
Condition = Annotated[str, Field(min_length=1, max_length=4_000)]
Ratio = Annotated[float, Field(ge=0, le=1)]

if TYPE_CHECKING:
    AnyJson: TypeAlias = Json
else:
    AnyJson = Any  # checked as plain JSON before any model sees it: `jsonvalue.foreign_problem`
JsonObject: TypeAlias = dict[str, AnyJson]
