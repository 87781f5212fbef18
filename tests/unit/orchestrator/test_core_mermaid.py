import re

from orchestrator.core.mermaid import to_mermaid
from orchestrator.core.parsing import spec_from_mapping

PROMPT = {"type": "prompt", "prompt": "x"}


def spec(steps: dict[str, object]):
    return spec_from_mapping({"name": "acme", "steps": steps})


def test_steps_and_needs_are_drawn() -> None:
    text = to_mermaid(spec({"a": {"agent": PROMPT}, "end": {"needs": ["a"], "agent": "writer"}}))

    assert text == (
        'flowchart TD\n    s0["a<br/>prompt"]\n    s1["end<br/>writer"]\n    s0 --> s1\n'
    )


def test_states_show_as_icon_word_and_class() -> None:
    text = to_mermaid(spec({"a": {"agent": PROMPT}}), states={"a": "budget_exceeded"})

    assert 's0["$ a<br/>budget exceeded"]:::budget_exceeded' in text
    assert "classDef budget_exceeded fill:" in text


def test_map_shows_how_far_it_is() -> None:
    steps = {
        "each": {"agent": PROMPT, "map": {"over": "${input.list}"}},
        "end": {"needs": ["each"], "agent": PROMPT},
    }
    states = {"each": "running", "end": "pending"}

    text = to_mermaid(spec(steps), states=states, progress={"each": "3 of 1,200", "end": "0 of 1"})

    assert "each<br/>running: 3 of 1,200 items" in text
    assert 'end<br/>pending"' in text


def test_hostile_labels_are_escaped() -> None:
    hostile = '"]; click s0 call x() %% <script>`#quot;'
    steps = {"a": {"agent": {"type": "tool", "tool": hostile}}}

    label = re.search(r'\["(.*)"\]', to_mermaid(spec(steps)))

    assert label is not None
    shown = label.group(1).removeprefix("a<br/>")
    assert re.fullmatch(r"(?:[\w .,:$-]|#\d+;)*", shown)


def test_large_graph_is_folded_by_level() -> None:
    steps = {f"s{i}": {"needs": [f"s{i - 2}"] if i > 1 else [], "agent": PROMPT} for i in range(6)}
    states = {"s0": "completed", "s1": "failed"}

    text = to_mermaid(spec(steps), states=states, max_steps=5)

    assert 'l0["Level 1: 2 steps<br/>✓ 1 completed<br/>✗ 1 failed"]:::failed' in text
    assert "l1 --> l2" in text


def test_state_of_an_unknown_name_is_left_out() -> None:
    assert "ghost" not in to_mermaid(spec({"a": {"agent": PROMPT}}), states={"ghost": "failed"})
