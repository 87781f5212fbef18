"""The workflow files of a storm's flows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from orchestrator.chaos.flows import ANSWER, LEAF, MODEL, PROVIDER, Flow, Vertex, called
from orchestrator.chaos.teams import means, tasks

# Longer than whatever the storm holds up: a step that is late would fail for the storm's sake.
PATIENT: Final = "10m"
_STEPS: Final = {
    "type": "object",
    "required": ["steps"],
    "properties": {"steps": {"type": "object"}},
}


def spec_of(flow: Flow) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "muster": 1,
        "name": flow.name,
        "strategy": flow.strategy,
        "failure": {"mode": flow.mode, "max_failed_ratio": flow.max_failed_ratio},
        "inputs": {
            "type": "object",
            "required": ["marker"],
            "properties": {"marker": {"type": "string"}, "failing": {"type": "boolean"}},
        },
        "defaults": {"timeout": PATIENT},
        "steps": {vertex.name: _step(vertex) for vertex in flow.vertices},
        "output": _output(flow.last),
    }
    optional = {"max_parallel": flow.max_parallel, "deadline": flow.deadline}
    return spec | {name: value for name, value in optional.items() if value is not None}


def _output(last: str) -> dict[str, str]:
    return {"last": f"${{steps.{last}.output ?? 'none'}}"}


def _step(vertex: Vertex) -> dict[str, Any]:
    step: dict[str, Any] = {"priority": vertex.priority, **_KINDS[vertex.kind](vertex)}
    if vertex.needs:
        step |= {"needs": list(vertex.needs), "join": vertex.join}
    if vertex.runs_if:
        step["when"] = f'steps.{vertex.needs[0]}.output.route == "{vertex.runs_if}"'
    return step


def _ask(vertex: Vertex) -> dict[str, Any]:
    tries = len(vertex.stumbles) + 1
    return {
        "agent": {"type": "prompt", "provider": PROVIDER, "model": MODEL},
        "prompt": _script(vertex),
        "output_schema": ANSWER,
        "retry": {"strategy": "constant", "attempts": tries, "base": "1s", "jitter": True},
    }


def _script(vertex: Vertex, **more: Any) -> str:
    """What the provider is to do, as the prompt that tells it so."""
    script = {
        "run": "${input.marker}",
        "step": vertex.name,
        "route": vertex.route,
        "failing": vertex.failing,
        "stumbles": vertex.stumbles,
        "seconds": vertex.seconds,
        **more,
    }
    written = json.dumps(script)
    if not vertex.fails_if:
        return written
    return written.replace('"failing": false', f'"failing": {vertex.fails_if}')


def _list(vertex: Vertex) -> dict[str, Any]:
    return {
        "agent": {"type": "tool", "tool": "echo"},
        "arguments": {"value": list(vertex.items)},
    }


def _act(vertex: Vertex) -> dict[str, Any]:
    agent = {"type": "react", "provider": PROVIDER, "model": MODEL, "tools": ["echo"]}
    return {**_ask(vertex), "agent": agent, "prompt": _script(vertex, turns=vertex.turns)}


def _map(vertex: Vertex) -> dict[str, Any]:
    item = replace(vertex, name=f"{vertex.name}[${{index}}]", fails_if="${item}")
    over = f"${{steps.{vertex.needs[0]}.output}}"
    map_over = {"over": over, "parallel": 4, "allow_failed": vertex.allow_failed}
    return {**_KINDS[vertex.of](item), "map": map_over}


def _loop(vertex: Vertex) -> dict[str, Any]:
    write = _ask(
        replace(vertex, name=f"{vertex.name}.${{loop.round}}.write", route="${loop.round}")
    )
    return {
        "loop": {
            "steps": {
                "write": write,
                "read": {**_echo(replace(vertex, needs=("write",))), "needs": ["write"]},
            },
            "until": f'steps.read.output.route == "{vertex.rounds}"',
            "max_rounds": vertex.rounds + 1,
            "output": "${steps.read.output}",
        }
    }


def _call(vertex: Vertex) -> dict[str, Any]:
    marker = called("${input.marker}", vertex.name)
    failing = vertex.fails_if or vertex.failing
    return {"workflow": LEAF, "input": {"marker": marker, "failing": failing}}


def _add(vertex: Vertex) -> dict[str, Any]:
    steps = {
        added.name: _step(replace(added, name=f"{vertex.name}.{added.name}"))
        for added in vertex.adds
    }
    answer = json.dumps({"steps": steps, "output": _output(vertex.adds[-1].name)})
    # What it adds has variables of its own, which are not the asking prompt's.
    literal = json.loads(answer.replace("${", "$${"))
    return {
        **_ask(vertex),
        "prompt": _script(vertex, answer=literal),
        "output_schema": _STEPS,
        "adds_steps": True,
    }


def _delegate(vertex: Vertex) -> dict[str, Any]:
    return _handing(vertex, {"type": "react", **means(is_poor=vertex.is_poor)})


def _plan(vertex: Vertex) -> dict[str, Any]:
    agent = {"type": "planner", "tools": ["echo"], **means(is_poor=vertex.is_poor)}
    return _handing(vertex, agent, is_planned=True)


def _handing(vertex: Vertex, agent: dict[str, Any], **more: Any) -> dict[str, Any]:
    # What tasks say of each other is for whoever plans, and no variable of the prompt.
    handed = json.loads(json.dumps(tasks(vertex)).replace("${", "$${"))
    return {
        **_ask(vertex),
        "agent": {"provider": PROVIDER, "model": MODEL, **agent},
        "prompt": _script(vertex, tasks=handed, **more),
    }


def _echo(vertex: Vertex) -> dict[str, Any]:
    value = f"${{steps.{vertex.needs[0]}.output ?? 'none'}}" if vertex.needs else vertex.name
    return {"agent": {"type": "tool", "tool": "echo"}, "arguments": {"value": value}}


def _gather(vertex: Vertex) -> dict[str, Any]:
    return {"agent": {"type": "aggregator"}}


def _delay(vertex: Vertex) -> dict[str, Any]:
    return {"delay": f"{vertex.seconds:.0f}s"}


def _approval(vertex: Vertex) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "question": f"Shall {vertex.name} of ${{input.marker}} go on?",
        "on_reject": "fail" if vertex.failing else "continue",
    }
    if vertex.verdict == "expire":
        on_expire = "fail" if vertex.failing else "approve"
        asked |= {"expires": f"{vertex.seconds:.0f}s", "on_expire": on_expire}
    return {"approval": asked}


_KINDS: Final[dict[str, Callable[[Vertex], dict[str, Any]]]] = {
    "ask": _ask,
    "act": _act,
    "echo": _echo,
    "gather": _gather,
    "delay": _delay,
    "list": _list,
    "map": _map,
    "loop": _loop,
    "call": _call,
    "add": _add,
    "delegate": _delegate,
    "plan": _plan,
    "approval": _approval,
}
