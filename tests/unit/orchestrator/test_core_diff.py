import re
import time
from typing import Any

import pytest

from orchestrator.core.diff import diff, in_same_order
from orchestrator.core.diff_text import diff_text
from orchestrator.core.yaml_io import dump_text

BASE: dict[str, Any] = {
    "muster": 1,
    "name": "report",
    "description": "Writes.",
    "defaults": {"provider": "local", "timeout": "30s"},
    "steps": {
        "outline": {"agent": "planner", "prompt": "Outline.\nBe brief.\n"},
        "facts": {"needs": ["outline"], "agent": {"type": "prompt", "role": "executor"}},
        "draft": {"needs": ["facts"], "agent": "writer", "parameters": {"temperature": 0.2}},
    },
}


def changed(**steps: Any) -> dict[str, Any]:
    merged = {**BASE["steps"], **steps}
    return {**BASE, "steps": {name: body for name, body in merged.items() if body is not None}}


def reordered(*names: str) -> dict[str, Any]:
    return {**BASE, "steps": {name: BASE["steps"].get(name, {}) for name in names}}


def test_same_specs_do_not_differ() -> None:
    assert diff(BASE, changed()).is_empty
    assert diff_text(BASE, changed(), before_name="1", after_name="2") == ""


def test_fields_are_named_by_their_place_down_to_the_leaf() -> None:
    after = changed(draft={"needs": ["facts", "outline"], "agent": "writer", "parameters": {}})
    after |= {"defaults": {"provider": "openai", "timeout": "30s"}, "module": "sales"}
    del after["description"]

    found = diff(BASE, after)

    assert [(c.loc, c.change, c.before, c.after) for c in found.workflow] == [
        ("/description", "removed", "Writes.", None),
        ("/defaults/provider", "changed", "local", "openai"),
        ("/module", "added", None, "sales"),
    ]
    (step,) = found.steps
    assert (step.name, step.change) == ("draft", "changed")
    assert [(c.loc, c.change, c.before, c.after) for c in step.fields] == [
        ("/steps/draft/needs", "changed", ["facts"], ["facts", "outline"]),
        ("/steps/draft/parameters/temperature", "removed", 0.2, None),
    ]


def test_renamed_step_is_one_gone_and_one_new() -> None:
    found = diff(BASE, changed(facts=None, data=BASE["steps"]["facts"]))

    assert [(step.name, step.change) for step in found.steps] == [
        ("facts", "removed"),
        ("data", "added"),
    ]
    assert {change.loc for change in found.steps[1].fields} == {
        "/steps/data/needs",
        "/steps/data/agent",
    }


def test_step_that_moved_is_named_and_not_those_it_passed() -> None:
    assert diff(BASE, reordered("draft", "outline", "facts")).moved == ("draft",)


def test_agent_in_place_for_a_saved_one_is_one_change() -> None:
    found = diff(BASE, changed(draft={**BASE["steps"]["draft"], "agent": {"type": "prompt"}}))

    assert [(c.loc, c.before) for c in found.steps[0].fields] == [("/steps/draft/agent", "writer")]


@pytest.mark.parametrize(("before", "after"), [(1, True), (0, False), (None, ""), ([1], [True])])
def test_values_of_another_type_differ(before: Any, after: Any) -> None:
    assert not diff({"output": before}, {"output": after}).is_empty


def patched(text: str, patch: str) -> str:
    """The text with each hunk of a unified diff put in at the very lines that it names."""
    old, new, at = text.splitlines(), [], 0
    for line in patch.splitlines()[2:]:
        if head := re.match(r"@@ -(\d+)(?:,(\d+))? ", line):
            start = int(head[1]) - (head[2] != "0")
            new += old[at:start]
            at = start
            continue
        if line[0] in " -":
            assert old[at] == line[1:]
            at += 1
        if line[0] in " +":
            new.append(line[1:])
    return "\n".join([*new, *old[at:], ""])


@pytest.mark.parametrize(
    "after",
    [
        changed(outline={"agent": "planner", "prompt": "Outline.\nBe long.\n"}),
        changed(facts=None, more={"agent": "x"}),
        reordered("draft", "outline", "facts"),
        reordered("facts", "new", "draft", "outline"),
        {**changed(), "description": "Other."},
        {"muster": 1, "name": "y", "steps": {"z": {"agent": "a"}}},
    ],
)
def test_text_is_a_patch_from_one_file_to_the_other(after: Any) -> None:
    text = diff_text(BASE, after, before_name="a", after_name="b")

    assert patched(dump_text(BASE), text) == dump_text(after)


@pytest.mark.parametrize(
    ("new", "kept"), [("abcdef", "abcdef"), ("fabcde", "abcde"), ("acbdfx", "abdf"), ("", "")]
)
def test_as_many_as_can_keep_their_order(new: str, kept: str) -> None:
    assert in_same_order("abcdef", new) == list(kept)


def test_hostile_specs_are_compared_in_seconds() -> None:
    lines = [f"line {n % 120}" for n in range(60_000)]
    one = {"steps": {"a": {"prompt": "\n".join(lines)}, "b": {"prompt": "\n".join(lines[:1400])}}}
    two = {
        "steps": {
            "a": {"prompt": "\n".join(lines[::-1])},
            "b": {"prompt": "\n".join(lines[1400:100:-1])},
        }
    }

    began = time.perf_counter()
    text = diff_text(one, two, before_name="1", after_name="2")

    assert time.perf_counter() - began < 10
    assert text.count("\n") <= 5_003
