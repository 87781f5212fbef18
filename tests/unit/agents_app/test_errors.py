import pickle

import pytest

from agents_app.core.errors import (
    AgentInvalidError,
    OutputInvalidError,
    ProviderError,
    ProviderErrorKind,
    ToolFailedError,
    ToolNotAllowedError,
)


@pytest.mark.parametrize(
    "error",
    [
        ProviderError(ProviderErrorKind.RATE_LIMITED, "slow down", "openai", 429, 1.5, True),
        ToolFailedError("echo", "broke"),
        ToolNotAllowedError("rocket", ("echo",)),
        AgentInvalidError("no"),
        OutputInvalidError("not JSON", "/a"),
    ],
)
def test_errors_survive_pickling(error):
    copy = pickle.loads(pickle.dumps(error))

    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_only_passing_failures_are_retryable():
    retryable = {kind for kind in ProviderErrorKind if ProviderError(kind, "x").retryable}

    assert {kind.value for kind in retryable} == {
        "timeout",
        "connection",
        "rate_limited",
        "overloaded",
        "server",
    }


def test_message_names_provider_kind_and_status():
    error = ProviderError(ProviderErrorKind.OVERLOADED, "busy", "anthropic", 529)

    assert str(error) == "anthropic: overloaded (529): busy"
