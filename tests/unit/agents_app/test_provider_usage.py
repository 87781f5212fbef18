import pytest

from agents_app.core.model import Message, ModelRequest
from agents_app.providers.usage import from_anthropic, from_openai, from_xai
from costs.core.usage import Usage

REQUEST = ModelRequest(provider="acme", model="m", messages=(Message("user", "x" * 30),))


def read(normalise, stated, text="y" * 60):
    return normalise(stated, request=REQUEST, text=text)


def test_ollama_states_only_the_two_counts():
    stated = {"prompt_tokens": 26, "completion_tokens": 10, "total_tokens": 36}

    assert read(from_openai, stated) == Usage(input_tokens=26, output_tokens=10)


def test_anthropic_input_excludes_cache_writes():
    stated = {
        "input_tokens": 21,
        "cache_creation_input_tokens": 188086,
        "cache_read_input_tokens": None,
        "output_tokens": 393,
        "output_tokens_details": {"thinking_tokens": 300},
    }

    assert read(from_anthropic, stated) == Usage(
        input_tokens=188107, output_tokens=393, cache_write_tokens=188086, reasoning_tokens=300
    )


def test_xai_total_decides_whether_reasoning_is_inside():
    stated = {
        "prompt_tokens": 10,
        "completion_tokens": 50,
        "total_tokens": 60,
        "completion_tokens_details": {"reasoning_tokens": 40},
    }

    assert read(from_xai, stated).output_tokens == 50


def test_xai_states_its_price():
    stated = {
        "prompt_tokens": 1,
        "completion_tokens": 1,
        "total_tokens": 2,
        "cost_in_usd_ticks": 37_756_005,
    }

    assert read(from_xai, stated).reported_cost_nano == 3_775_601


@pytest.mark.parametrize("normalise", [from_openai, from_xai, from_anthropic])
@pytest.mark.parametrize("stated", [None, {}, [], "many", 7])
def test_missing_usage_is_estimated_and_marked(normalise, stated):
    usage = read(normalise, stated)

    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (12, 22, True)


@pytest.mark.parametrize("count", [-5, "12", 1.5, True, None, 10**30])
def test_absurd_counts_are_estimated(count):
    usage = read(from_openai, {"prompt_tokens": count, "completion_tokens": 3})

    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (12, 3, True)


@pytest.mark.parametrize("ticks", [-1, True, "9", 10**30, 1.5])
def test_absurd_prices_are_ignored(ticks):
    stated = {"prompt_tokens": 1, "completion_tokens": 1, "cost_in_usd_ticks": ticks}

    assert read(from_xai, stated).reported_cost_nano is None


def test_parts_that_lie_are_cut_to_their_whole():
    stated = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 900, "cache_write_tokens": 900},
        "completion_tokens_details": {"reasoning_tokens": 900},
    }

    assert read(from_openai, stated) == Usage(
        input_tokens=10, output_tokens=5, cached_tokens=10, reasoning_tokens=5
    )
