"""Does what the loop asks for, through the ports that an agent is handed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import JsonValue

from agents_app.core import loop
from agents_app.core.agent import Outcome, Ports
from agents_app.core.delegating_tools import is_delegating, whom
from agents_app.core.delegation import Delegation, step_name
from agents_app.core.errors import (
    AgentsError,
    DelegationRefusedError,
    ProviderError,
    ProviderErrorKind,
)
from agents_app.core.hands import DueCall, end_of
from agents_app.core.journal import ToolEnd
from agents_app.core.model import ModelRequest, ToolCall


def converse(request: ModelRequest, *, limits: loop.LoopLimits, ports: Ports) -> Outcome:
    """What a conversation that begins with this request comes to, within its deadline.

    The tools of `ports` are those that the request offers. Raises what ends it otherwise.
    """
    until = ports.hands.now() + request.deadline_seconds
    return Conversation(loop.State(request=request, limits=limits), ports, until=until).outcome()


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
        # The first call has all the time there is; most agents make no other.
        if self._state.turn > 1:
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

    @property
    def _own_name(self) -> Sequence[str]:
        """Its own step's, which none that it delegates may have: an agent may ask its like."""
        around = self._ports.context
        return [around.step.rpartition(".")[2].partition("[")[0]] if around else []

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
            name = step_name(whom(each.call), taken=[*steps, *self._own_name])
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
