"""Thinks in turns: asks its model, calls the tools that it wants, and tells it what they gave."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pydantic import JsonValue

from agents_app.core import loop, observations
from agents_app.core.agent import AgentConfig, Outcome, Ports, Problem
from agents_app.core.delegating_tools import delegating_tools, is_delegating, whom
from agents_app.core.delegation import Delegation, step_name
from agents_app.core.errors import (
    AgentsError,
    DelegationRefusedError,
    ProviderError,
    ProviderErrorKind,
)
from agents_app.core.hands import DueCall, end_of
from agents_app.core.journal import ToolEnd
from agents_app.core.memory_settings import MemorySettings, memory_problems
from agents_app.core.model import ModelRequest, ToolCall, ToolSpec
from agents_app.core.tools import Toolbox
from agents_app.core.types.prompt import is_count, model_problems, request_of

MAX_TURNS = 1_000


class ReactAgent:
    """Every answer and every result of a tool is kept, so that none is asked for twice.

    Its time counts for all turns together.
    """

    name = "react"
    description = "Asks a model in turns and calls the tools that it wants, until it answers."
    calls_model = True

    def problems(self, config: AgentConfig, tools: Toolbox) -> list[Problem]:
        return model_problems(config) + loop_problems(config, tools)

    def run(
        self,
        config: AgentConfig,
        *,
        inputs: Mapping[str, JsonValue],  # they are in the prompt already
        ports: Ports,
    ) -> Outcome:
        own = ports.tools.only(dict.fromkeys(config.tools))
        ports = replace(ports, tools=Toolbox([*own.all(), *delegating_tools(config)]))
        request = _first_request(config, ports.tools)
        until = ports.hands.now() + config.deadline_seconds
        state = loop.State(request=request, limits=limits_of(config))
        return Conversation(state, ports, until=until).outcome()


def limits_of(config: AgentConfig) -> loop.LoopLimits:
    memory = MemorySettings.of(config)
    return loop.LoopLimits(
        turns=config.max_turns,
        tokens=config.max_total_tokens,
        context_tokens=memory.max_tokens,
        sums_up=memory.summary,
    )


def loop_problems(config: AgentConfig, tools: Toolbox) -> list[Problem]:
    """What is wrong with the settings of an agent that works in turns."""
    faults = (tools.fault(name) for name in config.tools)
    found = [Problem("tools", fault) for fault in faults if fault]
    if config.max_total_tokens is not None and not is_count(config.max_total_tokens):
        found.append(Problem("max_total_tokens", "must be a whole number of at least 1"))
    if not is_count(config.max_turns) or config.max_turns > MAX_TURNS:
        found.append(Problem("max_turns", f"must be a whole number from 1 to {MAX_TURNS:,}"))
    return found + memory_problems(config)


def _first_request(config: AgentConfig, tools: Toolbox) -> ModelRequest:
    specs = tuple(
        ToolSpec(name=tool.name, description=tool.description, parameters=tool.parameters)
        # One that is withheld says so when it is called: what was begun with it goes on.
        for tool in tools.all()
    )
    request = request_of(config)
    if not specs:
        return request
    system = "\n\n".join(filter(None, [config.system, observations.RULES]))
    return replace(request, system=system, tools=specs)


class _HandedOver(Exception):
    """The agent has delegated all that is left of its turn."""

    def __init__(self, delegation: Delegation) -> None:
        super().__init__(delegation)
        self.delegation = delegation


class Conversation:
    """Does what the loop asks for, until it has ended or its agent has delegated what it wants."""

    def __init__(self, state: loop.State, ports: Ports, *, until: float) -> None:
        self._state = state
        self._ports = ports
        self._until = until

    @property
    def state(self) -> loop.State:
        return self._state

    def outcome(self) -> Outcome:
        """Raises the error that the loop ends with, and what the ports raise."""
        try:
            return self._talk()
        except _HandedOver as end:
            return Outcome(output=None, text="", delegates=end.delegation)

    def _talk(self) -> Outcome:
        effect = self._tell(loop.Started())
        while True:
            match effect:
                case loop.Done(outcome):
                    return outcome
                case loop.Failed(error):
                    raise error
                case _ if self._seconds_left <= 0:
                    effect = self._tell(loop.TimeIsUp())
                case loop.CallModel(request):
                    effect = self._tell(self._ask(request))
                case loop.CallTools():
                    effect = self._use(effect)
                case None:
                    raise AgentsError("the loop has lost its way")

    @property
    def _seconds_left(self) -> float:
        return self._until - self._ports.hands.now()

    def _tell(self, event: loop.Event) -> loop.Effect | None:
        self._state, effect = loop.step(self._state, event)
        return effect

    def _ask(self, request: ModelRequest) -> loop.Answered | loop.TooLong:
        request = replace(request, deadline_seconds=max(self._seconds_left, 0.1))
        try:
            return loop.Answered(self._ports.model.complete(request))
        except ProviderError as error:
            if error.kind is not ProviderErrorKind.CONTEXT_TOO_LONG:
                raise
            return loop.TooLong(error)

    def _use(self, asked: loop.CallTools) -> loop.Effect | None:
        effect: loop.Effect | None = None
        for call_id, end in self._ends(asked):
            event: loop.Event = loop.ToolFinished(call_id, end.output)
            if end.error is not None:
                event = loop.ToolFailed(call_id, end.error)
            effect = self._tell(event)
        return effect

    def _ends(self, asked: loop.CallTools) -> Iterator[tuple[str, ToolEnd]]:
        """What came of each call, noted before anybody hears of it."""
        tools, left = self._ports.tools, self._seconds_left
        repeatable = {tool.name for tool in tools.all() if tool.is_repeatable}
        known = self._ports.journal.begin(asked.turn, asked.calls, repeatable=repeatable)
        yield from known.items()
        due = [self._due(asked.turn, call) for call in asked.calls if call.id not in known]
        own = [each for each in due if not is_delegating(each.tool)]
        for call_id, end in self._ports.hands.ends_of(own, within_seconds=left):
            yield self._noted(asked.turn, call_id, end)
        yield from self._hand_over(asked.turn, [each for each in due if is_delegating(each.tool)])

    def _due(self, turn: int, call: ToolCall) -> DueCall:
        around = self._ports.context
        context = around and around.for_call(turn, call.id)
        return DueCall(call=call, tool=self._ports.tools[call.name], context=context)

    def _noted(self, turn: int, call_id: str, end: ToolEnd) -> tuple[str, ToolEnd]:
        self._ports.journal.end(turn, call_id, end)
        return call_id, end

    def _hand_over(self, turn: int, due: Sequence[DueCall]) -> Iterator[tuple[str, ToolEnd]]:
        """Delegate what these calls ask for; of those that cannot be, what is wrong."""
        steps: dict[str, JsonValue] = {}
        calls: dict[str, str | None] = {}
        for each in due:
            end = end_of(each)
            if end.error is not None:
                yield self._noted(turn, each.call.id, end)
                continue
            name = step_name(whom(each.call), taken=steps)
            steps[name], calls[each.call.id] = end.output, name
        if not steps:
            return
        delegation = Delegation(turn=turn, calls=calls, steps=steps)
        try:
            self._ports.delegating.take(delegation)
        except DelegationRefusedError as error:
            for call_id in calls:
                yield self._noted(turn, call_id, ToolEnd(error=str(error)))
        else:
            raise _HandedOver(delegation)
