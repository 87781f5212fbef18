"""Workflows that several benchmarks run."""

from typing import Any

Steps = dict[str, dict[str, Any]]


def workflow(name: str, steps: Steps, *, strategy: str, **header: Any) -> dict[str, Any]:
    return {"muster": 1, "name": name, "strategy": strategy, "steps": steps, **header}


def noop(*needs: str) -> dict[str, Any]:
    """A step that asks no model: a tool that gives back what it was given."""
    step = {"agent": {"type": "tool", "tool": "echo"}, "arguments": {"value": None}}
    return {**step, "needs": list(needs)} if needs else step


def simulated(prompt: str, *needs: str, latency: float) -> dict[str, Any]:
    """A step with one call to the simulated provider, through the gateway as any other."""
    step: dict[str, Any] = {
        "agent": {"type": "prompt", "provider": "simulated", "model": "sim"},
        "prompt": prompt,
        "parameters": {"latency": latency},
    }
    return {**step, "needs": list(needs)} if needs else step


def lanes(levels: int, width: int) -> Steps:
    """Each step needs one of the level before, so that the levels are what they are."""
    return {
        f"s{level}_{lane}": noop(*([f"s{level - 1}_{lane}"] if level else []))
        for level in range(levels)
        for lane in range(width)
    }


def joined(levels: int, width: int) -> Steps:
    """A barrier between the levels: a step that needs all of one, and that all of the next need."""
    steps: Steps = {}
    for level in range(levels):
        if level:
            steps[f"join{level}"] = noop(*(f"s{level - 1}_{lane}" for lane in range(width)))
        for lane in range(width):
            steps[f"s{level}_{lane}"] = noop(*([f"join{level}"] if level else []))
    return steps
