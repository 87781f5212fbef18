"""JSON values as agents and tools hand them on."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

from pydantic import JsonValue

# PostgreSQL stores neither NUL nor half of a surrogate pair, and a model may write both.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def clean_text(text: str) -> str:
    return _UNSTORABLE.sub(_REPLACEMENT, text)


def clean(value: JsonValue) -> JsonValue:
    """The same value with every text fit to be stored."""
    return rewritten(value, clean_text)


def rewritten(value: JsonValue, change: Callable[[str], str]) -> JsonValue:
    """The same value with every text changed, and every key."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [rewritten(item, change) for item in value]
    if isinstance(value, dict):
        return {change(key): rewritten(item, change) for key, item in value.items()}
    return value


def texts_in(value: JsonValue) -> Iterator[str]:
    """All texts in a value, but for the keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_in(item)


def with_texts(value: JsonValue, change: Callable[[str], JsonValue]) -> JsonValue:
    """The same value with every text changed, but for the keys."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [with_texts(item, change) for item in value]
    if isinstance(value, dict):
        return {key: with_texts(item, change) for key, item in value.items()}
    return value


def at_path(value: JsonValue, path: str) -> JsonValue:
    """What stands at a dotted path, such as `results.0.title`; None if nothing does."""
    for part in filter(None, path.split(".")):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def parse(text: str) -> JsonValue:
    """Strict JSON, cleaned. Raises ValueError, also for NaN and for absurd nesting."""
    try:
        value: JsonValue = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        return clean(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_from(text: str, start: int) -> tuple[JsonValue, int]:
    """The JSON value that begins at a place of a text, and where it ends. Raises ValueError."""
    try:
        value, end = _DECODER.raw_decode(text, start)
        return clean(value), end
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dump(value: JsonValue | Mapping[str, JsonValue]) -> str:
    """Compact strict JSON. Raises ValueError or TypeError for what JSON cannot hold."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def as_text(value: JsonValue) -> str:
    return value if isinstance(value, str) else dump(value)


def text_size(text: str) -> int:
    """Its bytes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def cut(text: str, *, most_bytes: int) -> str:
    """As much of its beginning as so many bytes of UTF-8 hold."""
    if text_size(text) <= most_bytes:
        return text
    return text.encode("utf-8", "surrogatepass")[: max(0, most_bytes)].decode("utf-8", "ignore")


def json_size(value: JsonValue | Mapping[str, JsonValue]) -> int:
    """The bytes of the value's compact JSON."""
    return text_size(dump(value))


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
