"""Reading a vendor's answer as plain JSON.

The SDKs' own models are built without validation, so their types promise what a server may not
keep. From here on every field is looked at before it is used.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import httpx2

from agents_app.core import values
from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.providers.errors import redacted

_LONGEST_NAME = 200
# What no sound answer comes near, and every walk through an answer can stand.
_DEEPEST = 100
_LIMIT_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
_MOST_LIMITS = 30


def body_of(response: httpx2.Response, *, provider: str) -> dict[str, Any]:
    """The answer's JSON object. A 200 with anything else is a protocol error, and in doubt."""
    try:
        body = values.parse(response.text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise unreadable("the answer is not a JSON object; is the address right?", provider)
    if is_deep(body):
        raise unreadable("the answer is nested too deeply", provider)
    error = body.get("error")
    if isinstance(error, dict):
        raise unreadable(redacted(str(error.get("message", "an error"))), provider)
    return body


def unreadable(detail: str, provider: str) -> ProviderError:
    return ProviderError(ProviderErrorKind.PROTOCOL, detail, provider, 200, None, True)


def is_deep(value: object) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for each in level for inner in _within(each)]
        if not level:
            return False
    return True


def first(items: object) -> dict[str, Any]:
    """The first object of a list, or an empty one where the list is not what it should be."""
    if isinstance(items, list) and items and isinstance(items[0], dict):
        return items[0]
    return {}


def listed_models(body: Mapping[str, Any], *, provider: str) -> list[str]:
    listed = body.get("data")
    if not isinstance(listed, list):
        raise unreadable("the list of models has no data", provider)
    return [name_of(item.get("id")) for item in listed if isinstance(item, dict)]


def text_of(content: object) -> str:
    """The text of a message: plain, or in parts of which only those of type text count."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part for part in content if isinstance(part, dict) and part.get("type") == "text")
    return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def name_of(*candidates: object) -> str:
    """The first that is a text, of bounded length."""
    for candidate in candidates:
        if isinstance(candidate, str) and candidate:
            return candidate[:_LONGEST_NAME]
    return ""


def limits_of(headers: Mapping[str, str]) -> dict[str, str]:
    """What the provider states of the quota that is left, by header name."""
    found = ((name.lower(), value) for name, value in headers.items())
    stated = [(name, value) for name, value in found if name.startswith(_LIMIT_PREFIXES)]
    return {name: value[:_LONGEST_NAME] for name, value in stated[:_MOST_LIMITS]}


def _within(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
