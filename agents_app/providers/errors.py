"""Vendor errors brought into our one hierarchy, by status and code rather than by class alone."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import ModuleType
from typing import Any

import httpx2

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.values import clean_text
from tenants.kernel import clock

Kind = ProviderErrorKind

_SHOWN = 300
# Placeholders for keyless servers are shorter, and would be found in ordinary words.
_SHORTEST_SECRET = 8
_LONGEST_WAIT_SECONDS = 86_400.0
_KEY_LIKE = re.compile(r"\b(?:sk|xai|pk|key|gsk)[-_][\w*.-]{4,}|Bearer\s+\S+", re.IGNORECASE)
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)

_BY_STATUS: Mapping[int, Kind] = {
    401: Kind.AUTH,
    402: Kind.QUOTA_EXHAUSTED,
    403: Kind.PERMISSION,
    404: Kind.NOT_FOUND,
    408: Kind.TIMEOUT,
    409: Kind.SERVER,
    413: Kind.CONTEXT_TOO_LONG,
    429: Kind.RATE_LIMITED,
    503: Kind.OVERLOADED,
    504: Kind.TIMEOUT,
    529: Kind.OVERLOADED,
}
# What the error object's code or type says more exactly than the status.
_BY_CODE: Mapping[str, Kind] = {
    "insufficient_quota": Kind.QUOTA_EXHAUSTED,
    "billing_hard_limit_reached": Kind.QUOTA_EXHAUSTED,
    "billing_error": Kind.QUOTA_EXHAUSTED,
    "context_length_exceeded": Kind.CONTEXT_TOO_LONG,
    "exceed_context_size_error": Kind.CONTEXT_TOO_LONG,
    "request_too_large": Kind.CONTEXT_TOO_LONG,
    "content_filter": Kind.CONTENT_REFUSED,
    "content_policy_violation": Kind.CONTENT_REFUSED,
    "invalid_api_key": Kind.AUTH,
    "model_not_found": Kind.NOT_FOUND,
    "overloaded_error": Kind.OVERLOADED,
}
# Some vendors say these only in words, under a plain "invalid request".
_BY_WORDS: Mapping[str, Kind] = {
    "prompt is too long": Kind.CONTEXT_TOO_LONG,
    "maximum context length": Kind.CONTEXT_TOO_LONG,
    "maximum prompt length": Kind.CONTEXT_TOO_LONG,
    "exceed context limit": Kind.CONTEXT_TOO_LONG,
    "context window": Kind.CONTEXT_TOO_LONG,
    "available context size": Kind.CONTEXT_TOO_LONG,
    "credit balance is too low": Kind.QUOTA_EXHAUSTED,
    "incorrect api key": Kind.AUTH,
}
# Statuses behind which a request may have been served and charged all the same.
_IN_DOUBT = frozenset({408, 499, 502, 504, 520, 522, 524})


@contextmanager
def vendor_errors(sdk: ModuleType, *, provider: str, api_key: str) -> Iterator[None]:
    """Turn what an SDK raises inside into ProviderError.

    The original is cut off: it holds the request with its key, and its message the raw answer.
    """
    try:
        yield
    except sdk.APIStatusError as error:
        raise from_answer(error.response, error.body, provider=provider, api_key=api_key) from None
    except (sdk.APITimeoutError, httpx2.TimeoutException) as error:
        cause = error if isinstance(error, httpx2.HTTPError) else error.__cause__
        sent = not isinstance(cause, _NEVER_SENT)
        detail = "no complete answer before the deadline" if sent else "no connection in time"
        raise ProviderError(Kind.TIMEOUT, detail, provider, None, None, sent) from None
    except (sdk.APIError, httpx2.HTTPError) as error:
        cause = error if isinstance(error, httpx2.HTTPError) else error.__cause__
        sent = not isinstance(cause, _NEVER_SENT)
        what = "the connection broke before the answer was complete" if sent else "cannot connect"
        detail = redacted(f"{what}: {cause}", api_key)
        raise ProviderError(Kind.CONNECTION, detail, provider, None, None, sent) from None


def from_answer(
    response: httpx2.Response, body: object, *, provider: str, api_key: str
) -> ProviderError:
    status = response.status_code
    stated = _error_object(body)
    message = _message(stated, body)
    return ProviderError(
        classify(status, codes=_codes(stated), message=message),
        redacted(message or f"HTTP {status} without a message", api_key),
        provider,
        status,
        retry_after_seconds(response.headers, now=clock.now()),
        status in _IN_DOUBT,
    )


def classify(status: int, *, codes: frozenset[str] = frozenset(), message: str = "") -> Kind:
    for code, kind in _BY_CODE.items():
        if code in codes:
            return kind
    if status < 400:
        return Kind.PROTOCOL
    if status < 500 and status != 429:
        words = message.lower()
        for phrase, kind in _BY_WORDS.items():
            if phrase in words:
                return kind
    return _BY_STATUS.get(status, Kind.SERVER if status >= 500 else Kind.INVALID_REQUEST)


def retry_after_seconds(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """How long the provider asks us to wait: milliseconds, seconds, or a date. At most a day."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = _number(headers.get(name, ""))
        if seconds is not None:
            return min(seconds * unit, _LONGEST_WAIT_SECONDS)
    try:
        until = parsedate_to_datetime(headers.get("retry-after", ""))
        # A date without a zone counts as UTC, as HTTP has it.
        wait = (until if until.tzinfo else until.replace(tzinfo=now.tzinfo)) - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait.total_seconds(), 0.0), _LONGEST_WAIT_SECONDS)


def redacted(message: str, api_key: str = "") -> str:
    """A vendor's message without keys (some echo them) and of bounded length."""
    if len(api_key) >= _SHORTEST_SECRET:
        message = message.replace(api_key, "[key]")
    return clean_text(_KEY_LIKE.sub("[key]", message))[:_SHOWN]


def _error_object(body: object) -> Mapping[str, Any]:
    # One SDK hands over the whole answer, the other what stands under "error".
    if not isinstance(body, dict):
        return {}
    inner = body.get("error", body)
    return inner if isinstance(inner, dict) else body


def _codes(stated: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(str(stated[key]) for key in ("code", "type") if stated.get(key))


def _message(stated: Mapping[str, Any], body: object) -> str:
    for candidate in (stated.get("message"), stated.get("error"), stated.get("detail")):
        if isinstance(candidate, str):
            return candidate
    # Anything but an error object is as likely a proxy's web page as a reason.
    return ""


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
