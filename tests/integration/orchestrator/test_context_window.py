"""Prompts that are too long for their model."""

from dataclasses import dataclass, field

import pytest

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import Message, ModelRequest, TokenCount
from orchestrator.execution.context_window import check_length
from tests.rest import get
from tests.world import World

WORDS = "the quick brown fox jumps over it "


@dataclass
class Counting:
    tokens: int = 0
    asked: list[ModelRequest] = field(default_factory=list)

    def count_tokens(self, request: ModelRequest) -> TokenCount:
        self.asked.append(request)
        if not self.tokens:
            raise ProviderError(ProviderErrorKind.SERVER, "no", request.provider)
        return TokenCount(tokens=self.tokens, is_estimate=False)


def ask(text: str, provider: str = "anthropic", model: str = "claude-sonnet-4-5") -> ModelRequest:
    return ModelRequest(provider=provider, model=model, messages=(Message("user", text),))


def refusal(request: ModelRequest, client: Counting) -> str:
    with pytest.raises(ProviderError) as caught:
        check_length(request, client)
    assert caught.value.kind is ProviderErrorKind.CONTEXT_TOO_LONG
    assert not caught.value.in_doubt
    return str(caught.value)


def test_prompt_that_may_be_too_long_is_counted() -> None:
    long = ask(WORDS * 30_000)

    check_length(long, Counting(tokens=200_000))

    told = refusal(long, Counting(tokens=200_001))
    assert "200,001 tokens" in told
    assert "at most 200,000" in told


def test_prompt_that_surely_fits_is_not_counted() -> None:
    client = Counting(tokens=10**9)

    check_length(ask(WORDS), client)
    check_length(ask(WORDS * 100_000, "local", "smollm2"), client)

    assert not client.asked


def test_prompt_that_cannot_be_counted_is_for_its_model_to_judge() -> None:
    check_length(ask(WORDS * 30_000), Counting())


def test_without_counting_only_what_no_tokenizer_could_shorten_is_refused() -> None:
    client = Counting(tokens=1)

    check_length(ask(" " * 10_000_000, "openai", "gpt-4o"), client)
    check_length(ask(WORDS * 50_000, "openai", "gpt-4o"), client)
    told = refusal(ask(WORDS * 200_000, "openai", "gpt-4o"), client)

    assert "at least" in told
    assert not client.asked


def test_what_is_known_of_a_model_is_told(acme: World, globex: World) -> None:
    told = get(acme.client(), "providers/anthropic/models/claude-sonnet-4-5").json()
    local = get(acme.client(), "providers/local/models/vendor/any:1b").json()

    assert (told["context_window"], told["counts_tokens"]) == (200_000, True)
    assert "top_k" in told["parameters"]
    assert (local["model"], local["context_window"]) == ("vendor/any:1b", None)
    assert get(acme.client(), "providers/nobody/models/x").status_code == 404
    assert get(globex.client("runs:read"), "providers/openai/models/o3").status_code == 403
