"""Runs an agent of one's own, and keeps what it may break to its step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import JsonValue, TypeAdapter

from agents_app.core import values
from agents_app.core.agent import AgentConfig, Outcome, Ports, Problem, schema_problems
from agents_app.core.custom import CustomAgent
from agents_app.core.errors import AgentInvalidError, AgentsError, CustomAgentError
from agents_app.core.hands import DueCall, Ends, ToolHands
from agents_app.core.journal import ToolEnd, ToolJournal
from agents_app.core.model import ModelClient, ModelReply, ModelRequest, ToolCall
from agents_app.core.structured import check_output
from agents_app.core.tools import Toolbox
from agents_app.core.types.prompt import model_problems
from tenants.kernel.errors import PlatformError

_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)
ResultT = TypeVar("ResultT")


class CustomType:
    """`find` gives the agent of a name, or in words why there is none."""

    name = "custom"
    description = "Runs an agent of the operator's own, a class that `implementation` names."
    calls_model = True

    def __init__(self, find: Callable[[str], CustomAgent | str]) -> None:
        self._find = find

    def problems(self, config: AgentConfig, tools: Toolbox) -> list[Problem]:
        agent = self._find(config.implementation)
        if isinstance(agent, str):
            return [Problem("implementation", agent)]
        faults = (tools.fault(name) for name in config.tools)
        found = [Problem("tools", fault) for fault in faults if fault]
        found += model_problems(config) if agent.calls_model else schema_problems(config)
        return [*found, *agent.problems(config)]

    def run(self, config: AgentConfig, *, inputs: Mapping[str, JsonValue], ports: Ports) -> Outcome:
        agent = self._find(config.implementation)
        if isinstance(agent, str):
            raise AgentInvalidError(agent)
        outcome = _given(agent, config, inputs, ports)
        if config.output_schema is not None and outcome.is_final:
            check_output(outcome.output, config.output_schema)
        return outcome


def _given(
    agent: CustomAgent, config: AgentConfig, inputs: Mapping[str, JsonValue], ports: Ports
) -> Outcome:
    watch = _Watch()
    guarded = replace(
        ports,
        model=_WatchedModel(ports.model, watch),
        journal=_WatchedJournal(ports.journal, watch),
        hands=_WatchedHands(ports.hands, watch),
        tools=ports.tools.only(dict.fromkeys(config.tools)),
    )
    try:
        given = agent.run(config, inputs=inputs, ports=guarded)
    except (Exception, SystemExit) as error:
        watch.check()
        if isinstance(error, PlatformError):
            raise
        told = f"{type(error).__name__}: {error}"
        raise CustomAgentError(config.implementation, values.clean_text(told)) from error
    watch.check()
    return _outcome(given, config.implementation)


def _outcome(given: Any, name: str) -> Outcome:
    if isinstance(given, Outcome):
        return replace(given, output=_plain(given.output, name))
    output = _plain(given, name)
    return Outcome(output=output, text=values.as_text(output))


def _plain(given: Any, name: str) -> JsonValue:
    try:
        plain = values.clean(_JSON.validate_python(given))
        values.dump(plain)
    except (ValueError, TypeError, RecursionError) as error:
        raise CustomAgentError(name, "what it gives is not JSON") from error
    return plain


class _Watch:
    """Remembers what a port raised to end the attempt: no agent may catch that and go on."""

    def __init__(self) -> None:
        self._raised: BaseException | None = None

    def over(self, work: Callable[[], ResultT]) -> ResultT:
        self.check()
        try:
            return work()
        except AgentsError:
            raise
        except BaseException as error:
            self._raised = error
            raise

    def check(self) -> None:
        if self._raised is not None:
            raise self._raised


class _WatchedModel:
    def __init__(self, model: ModelClient, watch: _Watch) -> None:
        self._model = model
        self._watch = watch

    def complete(self, request: ModelRequest) -> ModelReply:
        return self._watch.over(lambda: self._model.complete(request))


class _WatchedHands:
    def __init__(self, hands: ToolHands, watch: _Watch) -> None:
        self._hands = hands
        self._watch = watch

    def now(self) -> float:
        return self._hands.now()

    def ends_of(self, calls: Sequence[DueCall], *, within_seconds: float) -> Ends:
        ends = self._hands.ends_of(calls, within_seconds=within_seconds)
        while (end := self._watch.over(lambda: next(ends, None))) is not None:
            yield end


class _WatchedJournal:
    def __init__(self, journal: ToolJournal, watch: _Watch) -> None:
        self._journal = journal
        self._watch = watch

    def begin(
        self, turn: int, calls: Sequence[ToolCall], *, repeatable: Any, held: Any = ()
    ) -> Mapping[str, ToolEnd]:
        return self._watch.over(
            lambda: self._journal.begin(turn, calls, repeatable=repeatable, held=held)
        )

    def end(self, turn: int, call_id: str, end: ToolEnd) -> None:
        self._watch.over(lambda: self._journal.end(turn, call_id, end))
