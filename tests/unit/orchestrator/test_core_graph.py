import pytest

from orchestrator.core import graph
from orchestrator.core.errors import CyclicWorkflowError

DIAMOND = {"a": [], "c": ["a"], "b": ["a"], "d": ["b", "c"], "alone": []}


def test_levels_keep_the_authors_order_inside() -> None:
    assert graph.levels(DIAMOND) == [["a", "alone"], ["c", "b"], ["d"]]


def test_cycle_is_named_from_first_to_first() -> None:
    cycle = graph.find_cycle({"a": ["c"], "b": ["a"], "c": ["b"], "d": ["c"]})

    assert cycle is not None
    assert cycle[0] == cycle[-1]
    assert " -> ".join(cycle) in "a -> b -> c -> a -> b -> c"


def test_levels_of_a_cycle_are_an_error_that_names_it() -> None:
    with pytest.raises(CyclicWorkflowError, match="->") as caught:
        graph.levels({"a": ["b"], "b": ["a"]})

    assert set(caught.value.steps) == {"a", "b"}
    assert str(CyclicWorkflowError(*caught.value.args)) == str(caught.value)


def test_graph_without_a_cycle_has_none() -> None:
    assert graph.find_cycle(DIAMOND) is None


def test_entries_exits_and_widest_level() -> None:
    assert graph.entry_steps(DIAMOND) == ["a", "alone"]
    assert graph.exit_steps(DIAMOND) == ["d", "alone"]
    assert graph.widest_level(DIAMOND) == ["a", "alone"]
    assert graph.widest_level({}) == []


def test_timing_tells_what_parallelism_saves() -> None:
    timing = graph.timing(DIAMOND, {"a": 1, "b": 5, "c": 2, "d": 1, "alone": 3})

    assert (timing.sequential, timing.levels, timing.critical) == (12, 9, 7)
    assert timing.critical_path == ("a", "b", "d")
    assert timing.saved == 3


def test_critical_path_without_durations_is_the_longest_chain() -> None:
    assert graph.critical_path(DIAMOND) == ("a", "b", "d")


def test_ancestors_of_a_long_chain() -> None:
    chain = {f"s{i}": [f"s{i - 1}"] if i else [] for i in range(10_000)}
    ancestry = graph.Ancestry(chain)

    assert ancestry.has("s9999", ancestor="s0")
    assert not ancestry.has("s0", ancestor="s9999")
    assert len(graph.ancestors(chain, "s9999")) == 9_999
