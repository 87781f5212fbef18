"""Agents of one's own: a class with a docstring and `run`, found in a folder or a package."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

from pydantic import JsonValue

from agents_app.core.agent import AgentConfig, Outcome, Ports, Problem
from agents_app.core.types.prompt import asked_once, request_of

NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
MAX_DESCRIPTION: Final = 2_000
MAX_CAPABILITIES: Final = 50
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class CustomAgent:
    """Derive from it, say in the docstring what the agent does, and write `run`.

    `name` is what workflows call it, and is made from the name of the class unless it is given.
    One instance serves all threads, so it keeps nothing between runs. It reaches the world through
    the ports alone.
    """

    name: ClassVar[str] = ""
    capabilities: ClassVar[Sequence[str]] = ()
    calls_model: ClassVar[bool] = True

    def run(
        self, config: AgentConfig, *, inputs: Mapping[str, JsonValue], ports: Ports
    ) -> Outcome | JsonValue:
        """What it gives: JSON, or an Outcome. `inputs` are the outputs of the steps it needs."""
        raise NotImplementedError

    def problems(self, config: AgentConfig) -> list[Problem]:
        """What is wrong with a configuration. Prompt and arguments may still be templates."""
        return []

    def ask(self, prompt: str, *, config: AgentConfig, ports: Ports) -> str:
        """The answer of the step's own model to a prompt: one call, priced as any other."""
        asked = replace(config, prompt=prompt, output_schema=None)
        return asked_once(request_of(asked), config=asked, ports=ports).text


def are_capabilities(value: object) -> bool:
    """Whether these are names of what an agent is good for."""
    if not isinstance(value, list | tuple | set | frozenset) or len(value) > MAX_CAPABILITIES:
        return False
    return all(isinstance(each, str) and NAME.fullmatch(each) for each in value)


def name_of(kind: type[CustomAgent]) -> str:
    return kind.name or _HUMP.sub("-", kind.__name__).lower()


def description_of(kind: type[CustomAgent]) -> str:
    own = kind.__dict__.get("__doc__")
    return inspect.cleandoc(own) if isinstance(own, str) else ""


def faults_of(kind: type[CustomAgent]) -> list[str]:
    """Everything that keeps a class from being an agent."""
    return [*_faults_of_words(kind), *_faults_of_code(kind)]


def _faults_of_words(kind: type[CustomAgent]) -> Iterator[str]:
    given: Any = kind.name
    if not isinstance(given, str) or not NAME.fullmatch(name_of(kind)):
        yield "its `name` has to be lower-case letters, digits, hyphens and underscores, at most 63"
    if not description_of(kind):
        yield "it has no docstring; say in one sentence what the agent does"
    elif len(description_of(kind)) > MAX_DESCRIPTION:
        yield f"its docstring has more than {MAX_DESCRIPTION:,} characters"
    if not are_capabilities(kind.capabilities):
        yield "its `capabilities` have to be a list of names such as translate"
    calls: Any = kind.calls_model
    if not isinstance(calls, bool):
        yield "its `calls_model` has to be True or False"


def _faults_of_code(kind: type[CustomAgent]) -> Iterator[str]:
    if kind.run is CustomAgent.run:
        yield "it has no method `run`"
    elif inspect.iscoroutinefunction(kind.run):
        yield "its `run` is async, which is not supported"
    elif not _takes(kind.run, None, None, inputs=None, ports=None):
        yield "its `run` has to be `def run(self, config, *, inputs, ports)`"
    if not _takes(kind):
        yield "it cannot be made without arguments"


def _takes(callable_: Any, *positional: Any, **named: Any) -> bool:
    try:
        inspect.signature(callable_).bind(*positional, **named)
    except (TypeError, ValueError):
        return False
    return True
