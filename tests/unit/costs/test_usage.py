import pytest

from costs.core.usage import Usage


@pytest.mark.parametrize(
    "counts",
    [
        {"input_tokens": -1, "output_tokens": 0},
        {"input_tokens": 0, "output_tokens": -1},
        {"input_tokens": 5, "output_tokens": 0, "cached_tokens": 6},
        {"input_tokens": 5, "output_tokens": 0, "cached_tokens": 3, "cache_write_tokens": 3},
        {"input_tokens": 0, "output_tokens": 5, "reasoning_tokens": 6},
        {"input_tokens": 9, "output_tokens": 0, "cache_write_1h_tokens": 1},
        {"input_tokens": 0, "output_tokens": 0, "reported_cost_nano": -1},
    ],
)
def test_usage_refuses_parts_beyond_the_whole(counts):
    with pytest.raises(ValueError):
        Usage(**counts)


def test_usage_separates_plain_input_from_cached():
    usage = Usage(input_tokens=100, output_tokens=7, cached_tokens=60, cache_write_tokens=10)

    assert usage.plain_input_tokens == 30
    assert usage.total_tokens == 107


def test_sum_of_usages_adds_each_class_and_stays_estimated():
    sure = Usage(input_tokens=10, output_tokens=4, cached_tokens=2, reasoning_tokens=1)
    guess = Usage(input_tokens=1, output_tokens=1, estimated=True)

    total = sure + guess

    assert total == Usage(
        input_tokens=11, output_tokens=5, cached_tokens=2, reasoning_tokens=1, estimated=True
    )


def test_sum_reports_a_cost_only_if_every_part_did():
    priced = Usage(input_tokens=1, output_tokens=1, reported_cost_nano=5)

    assert (priced + priced).reported_cost_nano == 10
    assert (priced + Usage(input_tokens=1, output_tokens=1)).reported_cost_nano is None
