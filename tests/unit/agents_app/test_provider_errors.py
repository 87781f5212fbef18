from datetime import UTC, datetime

import pytest

from agents_app.core.errors import ProviderErrorKind as Kind
from agents_app.providers.errors import classify, redacted, retry_after_seconds

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "codes", "message", "kind"),
    [
        (400, (), "", Kind.INVALID_REQUEST),
        (400, ("context_length_exceeded",), "", Kind.CONTEXT_TOO_LONG),
        (400, ("invalid_request_error",), "prompt is too long: 9 > 5", Kind.CONTEXT_TOO_LONG),
        (400, ("invalid_request_error",), "Your credit balance is too low", Kind.QUOTA_EXHAUSTED),
        (400, ("content_filter",), "", Kind.CONTENT_REFUSED),
        (400, (), "Incorrect API key provided", Kind.AUTH),
        (401, (), "", Kind.AUTH),
        (402, (), "", Kind.QUOTA_EXHAUSTED),
        (403, (), "", Kind.PERMISSION),
        (404, (), "", Kind.NOT_FOUND),
        (408, (), "", Kind.TIMEOUT),
        (409, (), "", Kind.SERVER),
        (413, ("request_too_large",), "", Kind.CONTEXT_TOO_LONG),
        (422, (), "", Kind.INVALID_REQUEST),
        (429, (), "", Kind.RATE_LIMITED),
        (429, (), "context window tokens per minute", Kind.RATE_LIMITED),
        (429, ("insufficient_quota",), "", Kind.QUOTA_EXHAUSTED),
        (500, (), "", Kind.SERVER),
        (500, ("overloaded_error",), "", Kind.OVERLOADED),
        (502, (), "", Kind.SERVER),
        (503, (), "", Kind.OVERLOADED),
        (504, (), "", Kind.TIMEOUT),
        (529, (), "", Kind.OVERLOADED),
        (599, (), "", Kind.SERVER),
        (307, (), "", Kind.PROTOCOL),
    ],
)
def test_status_and_code_decide_the_kind(status, codes, message, kind):
    assert classify(status, codes=frozenset(codes), message=message) is kind


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "9", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "99999999999"}, 86_400.0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers, seconds):
    assert retry_after_seconds(headers, now=NOW) == seconds


def test_messages_lose_keys_and_length():
    message = redacted(
        "Incorrect API key provided: sk-proj-abc***xyz. secret-of-acme Bearer abc " + "x" * 900,
        "secret-of-acme",
    )

    assert "abc" not in message
    assert "acme" not in message
    assert len(message) == 300


def test_a_placeholder_key_does_not_mangle_words():
    assert redacted("too many tokens", "k") == "too many tokens"
