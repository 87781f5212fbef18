"""What the provider says for agents that hand out tasks, and what they read of those."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from orchestrator.chaos.flows import called
from orchestrator.chaos.oracle import COMPLETED, FAILED

_RESULT: Final = re.compile(r"<tool_output>\n(.*?)\n</tool_output>", re.DOTALL)
_TASK: Final = re.compile(rf"^Task \w+ \(\w+\): (\w+)\n{_RESULT.pattern}", re.DOTALL | re.MULTILINE)


def message(
    body: dict[str, Any], script: dict[str, Any], *, turn: int, answer: dict[str, Any]
) -> dict[str, Any]:
    """Of its tasks those that are due in this turn, in the end the answer with what it heard."""
    is_planned, handed = script.get("is_planned", False), script["tasks"]
    if turn > len(handed):
        heard = _reports(body) if is_planned else _results(body)
        answer = {**answer, "heard": list(heard)}
        return _said({"tasks": [], "answer": answer} if is_planned else answer)
    due, run = handed[turn - 1], script["run"]
    if is_planned:
        return _said({"tasks": [_planned(task, run) for task in due]})
    calls = [_call(task, run, f"turn{turn}-{number}") for number, task in enumerate(due)]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def _said(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": json.dumps(content)}


def _planned(task: dict[str, Any], run: str) -> dict[str, Any]:
    planned = {"id": task["id"], "title": task["id"], "needs": task["needs"]}
    if "workflow" in task:
        return {**planned, "task": "", "workflow": task["workflow"], "input": _input(task, run)}
    if "tool" in task:
        arguments = {"value": task["value"]}
        return {**planned, "task": "", "tool": task["tool"], "arguments": arguments}
    by = {"agent": task["agent"]} if task["agent"] else {}
    return {**planned, **by, "task": _told(task, run)}


def _call(task: dict[str, Any], run: str, call_id: str) -> dict[str, Any]:
    name, arguments = "delegate", {"agent": task.get("agent"), "task": ""}
    if "workflow" in task:
        name, arguments = "run_workflow", {"workflow": task["workflow"], "input": _input(task, run)}
    else:
        arguments["task"] = _told(task, run)
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": call_id, "type": "function", "function": function}


def _told(task: dict[str, Any], run: str) -> str:
    return json.dumps({"run": run, **task["script"]})


def _input(task: dict[str, Any], run: str) -> dict[str, Any]:
    return {"marker": called(run, task["place"]), "failing": task["failing"]}


def _results(body: dict[str, Any]) -> Iterator[Any]:
    """What its calls gave, by the results that it was shown."""
    for told in body["messages"]:
        if told["role"] == "tool":
            found = _RESULT.fullmatch(told["content"])
            yield _value(found[1]) if found else FAILED


def _reports(body: dict[str, Any]) -> Iterator[Any]:
    """What came of its tasks, by the reports that it was shown."""
    _, *told = (each["content"] for each in body["messages"] if each["role"] == "user")
    for status, output in _TASK.findall("\n\n".join(told)):
        yield _value(output) if status == COMPLETED else status


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
