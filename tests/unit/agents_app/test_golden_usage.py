"""Usage blocks as providers really send them, and to the nano-dollar what they cost."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from agents_app.core.model import Message, ModelRequest
from agents_app.providers.usage import from_anthropic, from_openai, from_router, from_xai
from costs.core.pricing import Price, PriceTier, cost
from costs.core.usage import Usage

REQUEST = ModelRequest(provider="p", model="m", messages=(Message("user", "x" * 30),))
ANSWER = "y" * 60


def price(*rates: str, tiers: tuple[PriceTier, ...] = ()) -> Price:
    names = ("input", "output", "cached", "cache_write", "cache_write_1h")
    given = dict(zip(names, map(Decimal, rates), strict=False))
    return Price(**given, tiers=tiers)


GPT_5_2 = price("1.75", "14", "0.175")
GPT_4O_MINI = price("0.15", "0.6", "0.075")
LONG = PriceTier(
    above_input_tokens=200_000,
    input=Decimal("6"),
    output=Decimal("22.5"),
    cached=Decimal("0.6"),
    cache_write=Decimal("7.5"),
    cache_write_1h=Decimal("12"),
)
SONNET_4_5 = price("3", "15", "0.3", "3.75", "6", tiers=(LONG,))
GROK_4 = price("3", "15", "0.75")
LLAMA_70B = price("0.59", "0.79")
DEEPSEEK = price("0.28", "0.42", "0.028")
FREE = price("0", "0")


@dataclass(frozen=True)
class Golden:
    read: Callable[..., Usage]
    stated: Any
    price: Price
    tokens: tuple[int, int, int, int, int]  # input, cached, cache write, output, reasoning
    nano: int
    estimated: bool = False


GOLDEN = {
    "openai chat, cached prompt, reasoning": Golden(
        from_openai,
        {
            "prompt_tokens": 2006,
            "completion_tokens": 1420,
            "total_tokens": 3426,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 1024,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        GPT_5_2,
        (2006, 1920, 0, 1420, 1024),
        86 * 1750 + 1920 * 175 + 1420 * 14_000,
    ),
    "openai responses": Golden(
        from_openai,
        {
            "input_tokens": 75,
            "input_tokens_details": {"cached_tokens": 64},
            "output_tokens": 1186,
            "output_tokens_details": {"reasoning_tokens": 1024},
            "total_tokens": 1261,
        },
        GPT_5_2,
        (75, 64, 0, 1186, 1024),
        11 * 1750 + 64 * 175 + 1186 * 14_000,
    ),
    "openai, one cheap cached token": Golden(
        from_openai,
        {
            "prompt_tokens": 1,
            "completion_tokens": 1,
            "total_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 1},
        },
        GPT_4O_MINI,
        (1, 1, 0, 1, 0),
        75 + 600,
    ),
    "anthropic, caches of 5 minutes and of an hour": Golden(
        from_anthropic,
        {
            "input_tokens": 2048,
            "cache_read_input_tokens": 1800,
            "cache_creation_input_tokens": 248,
            "output_tokens": 503,
            "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
            "service_tier": "standard",
        },
        SONNET_4_5,
        (4096, 1800, 248, 503, 0),
        2048 * 3000 + 1800 * 300 + 148 * 3750 + 100 * 6000 + 503 * 15_000,
    ),
    "anthropic, cache read beyond the long-context mark": Golden(
        from_anthropic,
        {
            "input_tokens": 21,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 200_000,
            "output_tokens": 393,
            "service_tier": "standard",
        },
        SONNET_4_5,
        (200_021, 200_000, 0, 393, 0),
        21 * 6000 + 200_000 * 600 + 393 * 22_500,
    ),
    "xai, reasoning beside the output": Golden(
        from_xai,
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            "prompt_tokens_details": {
                "text_tokens": 32,
                "audio_tokens": 0,
                "image_tokens": 0,
                "cached_tokens": 6,
            },
            "completion_tokens_details": {
                "reasoning_tokens": 94,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
            "num_sources_used": 0,
        },
        GROK_4,
        (32, 6, 0, 103, 94),
        26 * 3000 + 6 * 750 + 103 * 15_000,
    ),
    "xai, its own price": Golden(
        from_xai,
        {
            "prompt_tokens": 199,
            "completion_tokens": 1,
            "total_tokens": 200,
            "cost_in_usd_ticks": 158_500,
        },
        GROK_4,
        (199, 0, 0, 1, 0),
        15_850,
    ),
    "openrouter, its own price": Golden(
        from_router,
        {
            "prompt_tokens": 194,
            "completion_tokens": 2,
            "total_tokens": 196,
            "cost": 0.00014175,
            "is_byok": False,
            "prompt_tokens_details": {"cached_tokens": 0},
            "cost_details": {"upstream_inference_cost": None},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        GPT_4O_MINI,
        (194, 0, 0, 2, 0),
        141_750,
    ),
    "openrouter, with a key of one's own behind it": Golden(
        from_router,
        {
            "prompt_tokens": 194,
            "completion_tokens": 2,
            "total_tokens": 196,
            "cost": 0.000007,
            "is_byok": True,
            "cost_details": {"upstream_inference_cost": 0.00014},
        },
        GPT_4O_MINI,
        (194, 0, 0, 2, 0),
        147_000,
    ),
    "groq": Golden(
        from_openai,
        {
            "queue_time": 0.037493756,
            "prompt_tokens": 4641,
            "prompt_time": 0.1,
            "completion_tokens": 1817,
            "completion_time": 2.6,
            "total_tokens": 6458,
            "total_time": 2.7,
            "prompt_tokens_details": {"cached_tokens": 4608},
        },
        LLAMA_70B,
        (4641, 4608, 0, 1817, 0),
        4641 * 590 + 1817 * 790,  # no price of its own for what was cached
    ),
    "deepseek": Golden(
        from_openai,
        {
            "prompt_tokens": 1019,
            "completion_tokens": 300,
            "total_tokens": 1319,
            "prompt_cache_hit_tokens": 960,
            "prompt_cache_miss_tokens": 59,
            "completion_tokens_details": {"reasoning_tokens": 120},
        },
        DEEPSEEK,
        (1019, 960, 0, 300, 120),
        59 * 280 + 960 * 28 + 300 * 420,
    ),
    "a server that counts reasoning in the total alone": Golden(
        from_openai,
        {
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "total_tokens": 70,
            "completion_tokens_details": {"reasoning_tokens": 40},
        },
        GPT_4O_MINI,
        (10, 0, 0, 60, 40),
        10 * 150 + 60 * 600,
    ),
    "llama.cpp": Golden(
        from_openai,
        {
            "completion_tokens": 22,
            "prompt_tokens": 24,
            "total_tokens": 46,
            "prompt_tokens_details": {"cached_tokens": 23},
        },
        FREE,
        (24, 23, 0, 22, 0),
        0,
    ),
    "ollama without usage": Golden(
        from_openai, None, price("0.1", "0.2"), (12, 0, 0, 22, 0), 12 * 100 + 22 * 200, True
    ),
    "usage that says nothing was read or written": Golden(
        from_openai,
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        price("0.1", "0.2"),
        (12, 0, 0, 22, 0),
        12 * 100 + 22 * 200,
        True,
    ),
}


@pytest.mark.parametrize("case", GOLDEN.values(), ids=GOLDEN.keys())
def test_usage_is_read_and_priced_to_the_nano_dollar(case: Golden) -> None:
    usage = case.read(case.stated, request=REQUEST, text=ANSWER)

    assert usage.estimated is case.estimated
    assert case.tokens == (
        usage.input_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    )
    assert cost(usage, case.price).nano == case.nano


@pytest.mark.parametrize("stated", [0, -1, True, "0.5", 10**9, float("nan"), float("inf"), None])
def test_price_that_is_none_or_absurd_leaves_it_to_the_price_book(stated: object) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "cost": stated}

    read = from_router(usage, request=REQUEST, text=ANSWER)

    assert read.reported_cost_nano is None


def test_call_that_says_it_was_free_is_charged_all_the_same() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "cost_in_usd_ticks": 0}

    read = from_xai(usage, request=REQUEST, text=ANSWER)

    assert cost(read, GROK_4).nano == 10 * 3000 + 10 * 15_000


def test_cache_writes_are_summed_up_where_the_whole_is_not_stated() -> None:
    usage = {
        "input_tokens": 5,
        "output_tokens": 1,
        "cache_creation": {"ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 3},
    }

    read = from_anthropic(usage, request=REQUEST, text=ANSWER)

    assert (read.input_tokens, read.cache_write_tokens, read.cache_write_1h_tokens) == (15, 10, 3)


def test_answer_without_text_may_have_written_nothing() -> None:
    read = from_openai({"prompt_tokens": 9, "completion_tokens": 0}, request=REQUEST, text="")

    assert read == Usage(input_tokens=9, output_tokens=0)
