"""Secrets and personal data are struck out; what only looks a little like them is not."""

import pytest

from orchestrator.core.redaction import redacted, without_secrets


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("use sk-ant-REDACTED0123456789 now", "use [key] now"),
        ("AKIAIOSFODNN7EXAMPLE", "[key]"),
        ("ghp_0123456789abcdefghij", "[key]"),
        ("Authorization: Bearer abc.def-ghi_jkl", "Authorization: [credential]"),
        ('{"password": "hunter2hunter2"}', '{"[password]"}'),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeK", "[token]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----!", "[private key]!"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE cut", "[private key]"),
        ("Write to jane.doe+x@mail.example.org.", "Write to [e-mail]."),
        ("4111 1111 1111 1111 and 4111-1111-1111-1111", "[card] and [card]"),
    ],
)
def test_secrets_are_struck_out(text: str, left: str) -> None:
    assert redacted(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",
        "1234567890",
        "a@b",
        "sk-short",
        "the bearer of bad news",
        "my password is secret",
        "2026-11-22T03:04:05.123456Z",
        "550e8400-e29b-41d4-a716-446655440000",
        "",
    ],
)
def test_the_rest_stays(text: str) -> None:
    assert redacted(text) == text


def test_values_are_searched_to_their_bottom() -> None:
    value = {"a@b.org": [{"mail": "a@b.org", "n": 1}, None, True]}

    assert redacted(value) == {"a@b.org": [{"mail": "[e-mail]", "n": 1}, None, True]}


@pytest.mark.parametrize("text", ["a@" * 50_000, "1 " * 50_000, "-" * 100_000, "eyJ" * 40_000])
def test_hostile_text_takes_no_time(text: str) -> None:
    redacted(text)


def test_who_has_to_judge_sees_persons_and_no_secrets() -> None:
    given = {
        "to": "jane@example.org",
        "api_key": "abc",
        "Authorization": ["x"],
        "tokens": 12,
        "token": "",
        "body": "Bearer abc.def-ghi_jkl and 4111 1111 1111 1111",
    }

    assert without_secrets(given) == {
        **given,
        "api_key": "[secret]",
        "Authorization": "[secret]",
        "tokens": "[secret]",
        "body": "[credential] and 4111 1111 1111 1111",
    }
