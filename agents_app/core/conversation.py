"""Does what the loop asks for, through the ports that an agent is handed."""

from collections.abc import Iterator
from dataclasses import replace

from agents_app.core import loop
from agents_app.core.agent import Outcome, Ports
from agents_app.core.errors import AgentsError
from agents_app.core.hands import DueCall
from agents_app.core.journal import ToolEnd
from agents_app.core.model import ModelRequest


def converse(request: ModelRequest, *, limits: loop.LoopLimits, ports: Ports) -> Outcome:
    """What a conversation that begins with this request comes to, within its deadline.

    The tools of `ports` are those that the request offers. Raises what ends it otherwise.
    """
    until = ports.hands.now() + request.deadline_seconds
    return _Conversation(loop.State(request=request, limits=limits), ports, until=until).outcome()


class _Conversation:
    def __init__(self, state: loop.State, ports: Ports, *, until: float) -> None:
        self._state = state
        self._ports = ports
        self._until = until

    def outcome(self) -> Outcome:
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

    def _ask(self, request: ModelRequest) -> loop.Answered:
        request = replace(request, deadline_seconds=max(self._seconds_left, 0.1))
        return loop.Answered(self._ports.model.complete(request))

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
        journal, tools, left = self._ports.journal, self._ports.tools, self._seconds_left
        repeatable = {tool.name for tool in tools.all() if tool.is_repeatable}
        known = journal.begin(asked.turn, asked.calls, repeatable=repeatable)
        yield from known.items()
        around = self._ports.context
        due = [
            DueCall(
                call=call,
                tool=tools[call.name],
                context=around and around.for_call(asked.turn, call.id),
            )
            for call in asked.calls
            if call.id not in known
        ]
        for call_id, end in self._ports.hands.ends_of(due, within_seconds=left):
            journal.end(asked.turn, call_id, end)
            yield call_id, end
