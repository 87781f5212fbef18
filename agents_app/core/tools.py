"""Functions that agents may call, with their arguments checked and their results bounded."""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self, get_type_hints
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic import create_model as create_pydantic_model

from agents_app.core import values
from agents_app.core.approving import CallApproval
from agents_app.core.bus import NO_BUS, MessageBus
from agents_app.core.cancellation import CallOverError, finished
from agents_app.core.completing import NO_COMPLETING, UNDECLARED, Completing
from agents_app.core.context_store import NO_CONTEXT, ContextStore
from agents_app.core.errors import (
    AgentsError,
    ToolFailedError,
    ToolNotAllowedError,
    ToolTimeoutError,
)
from agents_app.core.memory import Memory
from agents_app.core.model import JsonSchema
from agents_app.core.todos import NO_TODOS, TodoStore
from tenants.kernel.errors import PlatformError

MAX_RESULT_BYTES = 64 * 1024
TIMEOUT_SECONDS = 60.0
UNASKED = (
    "a person has to agree to each call of it; steps of type tool and agents that work in turns "
    "ask for that"
)
_SHOWN = 300
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """Who calls a tool, and in which run: a tool gets it by a parameter of this type.

    `call_id` names the call. It is the same for every attempt at it, so that what is written under
    this name is written once, whichever worker dies. The rest are ports: what the agent may keep
    and find, the messages between agents of the run, what they share, their todos, and models, for
    tools that ask some.
    """

    tenant_id: UUID
    run_id: UUID
    agent_run_id: UUID
    step: str
    call_id: UUID
    memory: Memory | None = field(default=None, compare=False, repr=False)
    messages: MessageBus = field(default=NO_BUS, compare=False, repr=False)
    shared: ContextStore = field(default=NO_CONTEXT, compare=False, repr=False)
    todos: TodoStore = field(default=NO_TODOS, compare=False, repr=False)
    models: Completing = field(default=NO_COMPLETING, compare=False, repr=False)

    def for_call(self, turn: int, call: str) -> Self:
        """The context of one of the calls that an agent makes in its turns."""
        return replace(self, call_id=uuid5(self.call_id, f"{turn}/{call}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A callable with the schema of its arguments, as a model is shown it.

    `check` makes what `function` takes of what was asked; it raises ValueError in words that a
    model may read, such as pydantic's. `function` raises whatever it likes.

    One that `is_instant` only computes, within bounds of its own: no thread is spent on it.
    One that `is_heavy` takes a processor for itself. Only one that `asks_models` is given any: what
    an agent with it may cost has no bound but its cap. `origin` is `module:name` of the function
    that it was made of.
    One that `needs_grant` works only for tenants that were granted it. `settings` is what a grant
    may say beside that. With an `approval` it is called only once a person has agreed to that call.
    With a text in `withheld`, which says why and what helps, it refuses to be called.
    """

    name: str
    description: str
    parameters: JsonSchema
    max_result_bytes: int = MAX_RESULT_BYTES
    timeout_seconds: float = TIMEOUT_SECONDS
    is_repeatable: bool = True
    is_instant: bool = False
    is_heavy: bool = False
    takes_context: bool = True
    asks_models: bool = False
    needs_grant: bool = False
    settings: type[BaseModel] | None = None
    approval: CallApproval | None = None
    withheld: str = ""
    origin: str = ""
    check: Callable[[Mapping[str, JsonValue]], Mapping[str, Any]]
    function: Callable[[Mapping[str, Any], ToolContext | None], Any]

    def asks(self, arguments: JsonValue) -> CallApproval | None:
        """Whose agreement a call needs; None where it would be refused before anything is done."""
        if self.approval is None or self.withheld or not isinstance(arguments, dict):
            return None
        try:
            self.check(arguments)
        except ValueError:
            return None
        return self.approval

    def call(
        self,
        arguments: Mapping[str, JsonValue],
        *,
        context: ToolContext | None = None,
        is_agreed: bool = False,
    ) -> JsonValue:
        """Check the arguments, call, check the result.

        Every failure is a ToolFailedError, or a ToolNotAllowedError if the tool is withheld; but
        for what a port raises to end the attempt.
        """
        if self.withheld:
            raise ToolNotAllowedError(self.name, self.withheld)
        try:
            checked = self.check(arguments)
        except ValueError as error:
            raise ToolFailedError(self.name, f"arguments: {_told(error)}"[:_SHOWN]) from error
        if self.approval is not None and not is_agreed:
            raise ToolNotAllowedError(self.name, UNASKED)
        return self._bounded(self._result(checked, context))

    def _result(self, checked: Mapping[str, Any], context: ToolContext | None) -> Any:
        if context is not None and self.takes_context and not self.asks_models:
            context = replace(context, models=UNDECLARED)
        try:
            result = self.function(checked, context)
            if inspect.iscoroutine(result):
                return finished(result, within_seconds=self.timeout_seconds)
            return result
        except CallOverError:
            raise self.late(self.timeout_seconds) from None
        except ToolFailedError:
            raise
        except AgentsError as error:  # what a port refuses
            raise ToolFailedError(self.name, str(error)[:_SHOWN]) from error
        except PlatformError:  # what ends the attempt, such as that another has taken it over
            raise
        except Exception as error:  # a tool is foreign code; whatever it raises is its failure
            reason = f"{type(error).__name__}: {error}"[:_SHOWN]
            raise ToolFailedError(self.name, reason) from error

    def bound(self, **facts: Any) -> "Tool":
        """The same tool with arguments that no model gives: see `tool`."""
        return replace(self, function=partial(_called_with, self.function, facts))

    def late(self, seconds: float) -> ToolTimeoutError:
        """What is told of a call that gave nothing within its time."""
        may_be_repeated = self.is_repeatable and self.approval is None
        return ToolTimeoutError(self.name, seconds, may_be_repeated)

    def _bounded(self, result: Any) -> JsonValue:
        try:
            plain = values.clean(_JSON.validate_python(result))
            size = len(values.dump(plain).encode())
        except (ValueError, TypeError, RecursionError) as error:
            raise ToolFailedError(self.name, "the result is not JSON") from error
        if size > self.max_result_bytes:
            raise ToolFailedError(
                self.name, f"the result has {size} bytes; at most {self.max_result_bytes} may be"
            )
        return plain


def _called_with(
    function: Callable[[Mapping[str, Any], ToolContext | None], Any],
    facts: Mapping[str, Any],
    checked: Mapping[str, Any],
    context: ToolContext | None,
) -> Any:
    return function({**checked, **facts}, context)


def tool(
    *,
    name: str | None = None,
    max_result_bytes: int = MAX_RESULT_BYTES,
    timeout_seconds: float = TIMEOUT_SECONDS,
    is_repeatable: bool = True,
    is_instant: bool = False,
    is_sensitive: bool = False,
    asks_models: bool = False,
    needs_grant: bool = False,
    settings: type[BaseModel] | None = None,
    bound: Collection[str] = (),
) -> Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a function: name, docstring and type hints are what a model gets to see.

    The function takes named, annotated arguments and returns JSON. An argument of the type
    ToolContext is not shown to models: it tells in which run the tool is called, and without a run
    such a tool fails. An async function runs in an event loop of its own for each call, and is
    cancelled when its time is over.

    After `timeout_seconds` an agent goes on without its result. One whose worker died is called
    again, unless it is not `is_repeatable`: then the agent is told that nobody knows whether it
    has done its work. With `needs_grant` only tenants that were granted it have it. A person has
    to agree to each call of one that `is_sensitive`, unless an admin of its tenant waives that.
    One that uses the context's `models` says so by `asks_models`. Models are not shown the
    arguments in `bound`: `Tool.bound` gives them, for one tenant each.
    """

    def decorate(function: Callable[..., Any]) -> Tool:
        tool_name = name or function.__name__
        description = inspect.cleandoc(function.__doc__ or "")
        if not description:
            raise TypeError(f"tool {tool_name!r} needs a docstring: models choose by it")
        signature = _Signature.of(function, name=tool_name, bound=bound)
        return Tool(
            name=tool_name,
            description=description,
            parameters=_without_titles(signature.arguments.model_json_schema()),
            max_result_bytes=max_result_bytes,
            timeout_seconds=timeout_seconds,
            is_repeatable=is_repeatable,
            is_instant=is_instant,
            takes_context=signature.context is not None,
            asks_models=asks_models,
            needs_grant=needs_grant,
            settings=settings,
            approval=CallApproval() if is_sensitive else None,
            origin=f"{function.__module__}:{function.__qualname__}",
            check=signature.check,
            function=signature.call,
        )

    return decorate


class Toolbox:
    """Tools by name. Those that are withheld are found by name, but are no part of it otherwise."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for item in tools:
            if item.name in self._tools:
                raise ValueError(f"two tools are named {item.name!r}")
            self._tools[item.name] = item

    def __getitem__(self, name: str) -> Tool:
        try:
            return self._tools[name]
        except KeyError:
            known = ", ".join(sorted(tool.name for tool in self)) or "none"
            told = f"there is no such tool here; available: {known}"
            raise ToolNotAllowedError(name, told) from None

    def __contains__(self, name: object) -> bool:
        return any(tool.name == name for tool in self)

    def __iter__(self) -> Iterator[Tool]:
        return (tool for tool in self._tools.values() if not tool.withheld)

    def all(self) -> tuple[Tool, ...]:
        """Those that are withheld too."""
        return tuple(self._tools.values())

    def fault(self, name: str) -> str | None:
        """Why a tool cannot be called, in words for people, or None if it can."""
        found = self._tools.get(name)
        if found is None:
            return f"there is no tool {name!r}"
        return f"tool {name!r} {found.withheld}" if found.withheld else None

    def takes_context(self, name: str) -> bool:
        """Whether there is such a tool, and it is told in which run it is called."""
        found = self._tools.get(name)
        return found is not None and found.takes_context

    def only(self, names: Iterable[str]) -> "Toolbox":
        """A box with these tools alone; an unknown name is a ToolNotAllowedError."""
        return Toolbox(self[name] for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signature:
    """A function with what its hints say of its arguments, and the one that takes the context."""

    function: Callable[..., Any]
    name: str
    arguments: type[BaseModel]
    context: str | None

    @classmethod
    def of(cls, function: Callable[..., Any], *, name: str, bound: Collection[str]) -> Self:
        hints = get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {}
        context = None
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind not in _BY_NAME or parameter.name not in hints:
                raise TypeError(
                    f"tool {name!r}: {parameter} must be passed by name and have a type hint"
                )
            if parameter.name in bound:
                continue
            if hints[parameter.name] is ToolContext:
                context = parameter.name
                continue
            required = parameter.default is inspect.Parameter.empty
            default = Field() if required else Field(default=parameter.default)
            fields[parameter.name] = (hints[parameter.name], default)
        arguments = create_pydantic_model(name, __config__=ConfigDict(extra="forbid"), **fields)
        return cls(function=function, name=name, arguments=arguments, context=context)

    def check(self, arguments: Mapping[str, JsonValue]) -> dict[str, Any]:
        model = self.arguments.model_validate(arguments)
        # Attribute by attribute: model_dump() would turn nested models back into dictionaries.
        return {name: getattr(model, name) for name in self.arguments.model_fields}

    def call(self, checked: Mapping[str, Any], context: ToolContext | None) -> Any:
        if self.context is None:
            return self.function(**checked)
        if context is None:
            raise ToolFailedError(self.name, "it works only within a run")
        return self.function(**checked, **{self.context: context})


def _without_titles(schema: Any) -> Any:
    """Drop the titles that pydantic makes up from names: they say nothing and cost tokens."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # A property may itself be called "title"; then its value is a schema, not a text.
    return {
        key: _without_titles(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }


def _told(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
        for problem in error.errors(include_url=False)
    )
