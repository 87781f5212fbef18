"""What holds for any graph, any document and any order of events."""

import json
from contextlib import suppress
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core import graph
from orchestrator.core.builder import Workflow
from orchestrator.core.conditions import compile_condition
from orchestrator.core.errors import ConditionError, SpecSyntaxError, TemplateError
from orchestrator.core.mermaid import to_mermaid
from orchestrator.core.parsing import spec_from_mapping, spec_to_mapping, spec_to_stored
from orchestrator.core.retry import RetryPolicy
from orchestrator.core.template import render
from orchestrator.core.validation import Catalog, examine
from orchestrator.core.yaml_io import dump_text, load_text

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
TRICKY = st.from_regex(r"[-+0-9.eExoniaftrusly:_~ \n#'\"$\{\}]{0,9}", fullmatch=True)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | TRICKY
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=15
)


@st.composite
def graphs(draw: st.DrawFn, max_size: int = 12) -> dict[str, list[str]]:
    """Needs without cycles, in an author's order that has nothing to do with them."""
    size = draw(st.integers(1, max_size))
    needs = {
        f"s{index}": sorted(
            draw(st.sets(st.integers(0, index - 1).map("s{}".format))) if index else []
        )
        for index in range(size)
    }
    return {name: needs[name] for name in draw(st.permutations(sorted(needs)))}


@st.composite
def specs(draw: st.DrawFn) -> dict[str, object]:
    steps = {}
    for name, needs in draw(graphs(max_size=6)).items():
        step: dict[str, object] = {"agent": {"type": "prompt", "prompt": "x"}}
        if needs or draw(st.booleans()):
            step["needs"] = needs
        step |= draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "description": TEXT,
                    "parameters": st.dictionaries(TEXT, JSON, max_size=3),
                    "priority": st.integers(0, 10),
                    "timeout": st.sampled_from(["30s", "1h30m", "010s"]),
                    "max_cost_usd": st.sampled_from(["0.50", "1", "0.000000001"]),
                },
            )
        )
        steps[name] = dict(draw(st.permutations(list(step.items()))))
    fields = {"name": "acme", "steps": steps, "description": draw(TEXT)}
    return dict(draw(st.permutations(list(fields.items()))))


@given(graphs())
def test_every_edge_crosses_levels_upward(needs: dict[str, list[str]]) -> None:
    level_of = {n: i for i, level in enumerate(graph.levels(needs)) for n in level}

    assert level_of.keys() == needs.keys()
    assert all(level_of[need] < level_of[name] for name in needs for need in needs[name])
    assert all(
        level_of[name] == max((level_of[need] + 1 for need in needs[name]), default=0)
        for name in needs
    )


@given(graphs(), st.randoms(use_true_random=False))
def test_relabelling_keeps_the_sizes_of_levels(needs: dict[str, list[str]], random) -> None:
    names = list(needs)
    shuffled = dict(zip(names, random.sample(names, len(names)), strict=True))
    relabelled = {shuffled[n]: [shuffled[need] for need in needs[n]] for n in needs}

    assert [len(level) for level in graph.levels(relabelled)] == [
        len(level) for level in graph.levels(needs)
    ]


@given(graphs())
def test_both_ways_of_asking_for_ancestors_agree(needs: dict[str, list[str]]) -> None:
    ancestry = graph.Ancestry(needs)

    for name in needs:
        before = {other for other in needs if ancestry.has(name, ancestor=other)}
        assert before == graph.ancestors(needs, name)


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), unique=True)))
def test_cycle_is_found_exactly_where_a_step_is_before_itself(needs: dict[str, list[str]]) -> None:
    cycle = graph.find_cycle(needs)

    assert (cycle is not None) == any(name in graph.ancestors(needs, name) for name in needs)
    if cycle:
        pairs = pairwise(cycle)
        assert all(before in needs[after] for before, after in pairs)


@given(graphs(), st.data())
def test_critical_path_is_a_chain_no_longer_than_either_schedule(
    needs: dict[str, list[str]], data: st.DataObject
) -> None:
    durations = {name: data.draw(st.integers(0, 50)) for name in needs}

    timing = graph.timing(needs, durations)

    path = timing.critical_path
    pairs = pairwise(path)
    assert all(before in needs[after] for before, after in pairs)
    assert sum(durations[name] for name in path) == timing.critical
    assert timing.critical <= timing.levels <= timing.sequential


@given(st.dictionaries(TEXT, JSON))
@settings(max_examples=300)
def test_any_document_survives_yaml_and_json(document: dict[str, object]) -> None:
    assert load_text(dump_text(document)) == document
    assert load_text(json.dumps(document)) == document


@given(st.text() | st.binary())
@settings(max_examples=300)
def test_any_text_is_read_or_refused(source: str | bytes) -> None:
    with suppress(SpecSyntaxError):
        assert isinstance(load_text(source), dict)


@given(specs())
def test_all_forms_of_a_spec_are_the_same_down_to_the_order(written: dict[str, object]) -> None:
    text = json.dumps(written)

    spec = spec_from_mapping(json.loads(text))

    assert json.dumps(spec_to_mapping(spec)) == text
    assert json.dumps(spec_to_mapping(spec_from_mapping(load_text(dump_text(written))))) == text
    assert spec_to_mapping(spec_from_mapping(spec_to_stored(spec))) == written
    assert "flowchart" in to_mermaid(spec)


@given(graphs())
def test_builder_writes_the_same_spec(needs: dict[str, list[str]]) -> None:
    agent = {"type": "prompt", "prompt": "x"}
    with Workflow("acme") as w:
        steps = {name: w.step(name, agent=agent) for name in needs}
        for name, of_step in needs.items():
            [steps[need] for need in of_step] >> steps[name]

    assert {s.name: s.needs for s in w.spec.steps} == needs
    again = spec_from_mapping(load_text(dump_text(spec_to_mapping(w.spec))))
    assert spec_to_mapping(again) == spec_to_mapping(w.spec)


@given(JSON)
@settings(max_examples=300)
def test_any_json_is_examined_without_an_exception(data: object) -> None:
    for document in (data, {"name": "x", "steps": data}, {"name": "x", "steps": {"a": data}}):
        assert examine(document, Catalog()).problems


@given(TEXT, TEXT)
def test_rendering_never_reads_a_value_for_variables(before: str, value: str) -> None:
    literal = before.replace("$", "")

    rendered = render(literal + ":${input.x}", {"input": {"x": value + "${input.secret}"}})

    assert rendered == literal + ":" + value + "${input.secret}"


@given(st.text())
def test_any_template_is_rendered_or_refused(template: str) -> None:
    with suppress(TemplateError):
        render(template, {"input": {}})


@given(st.text(alphabet="steps.a(){}[]'\"&|=!?:+-*/<>,1x \n", max_size=60))
@settings(max_examples=300)
def test_any_condition_gives_a_bool_or_is_refused(source: str) -> None:
    context = {"steps": {"a": {"output": 1}}}

    with suppress(ConditionError):
        assert isinstance(compile_condition(source).evaluate(context), bool)


@given(
    st.sampled_from(["immediate", "constant", "linear", "exponential"]),
    st.integers(1, 10_000),
    st.floats(0, 1e6),
    st.floats(1, 100),
    st.floats(0, 1e6),
    st.floats(0, 1, exclude_max=True),
)
def test_delay_never_passes_its_cap_and_keeps_at_least_half(
    strategy: str, attempt: int, base: float, factor: float, cap: float, jitter: float
) -> None:
    policy = RetryPolicy(
        strategy=strategy, max_attempts=10_001, base_delay=base, factor=factor, max_delay=cap
    )

    delay = policy.next_delay(attempt=attempt, retryable=True, jitter=jitter)
    full = policy.next_delay(attempt=attempt, retryable=True, jitter=0)

    assert delay is not None
    assert full is not None
    assert full / 2 <= delay <= full <= cap
