"""How an agent that uses tools works: a state machine without clock, threads or network.

`step` takes what has happened and gives what is to be done. Whoever does it tells of each result
by another event. The same events always give the same effects, so that an agent whose worker died
comes back to where it was from the answers and results that were kept.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from pydantic import JsonValue

from agents_app.core import observations, pruning, values
from agents_app.core.agent import Outcome
from agents_app.core.errors import (
    AgentInvalidError,
    AgentLimit,
    AgentLimitError,
    AgentsError,
    OutputInvalidError,
    ProviderError,
    ProviderErrorKind,
)
from agents_app.core.model import (
    DEFAULT_REPAIRS,
    DEFAULT_TURNS,
    FinishReason,
    Message,
    ModelReply,
    ModelRequest,
    ToolCall,
    ToolResult,
)
from agents_app.core.structured import parse_output

_LONGEST_ID = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLimits:
    """How long an agent may go on; what it may cost is for the model's gateway to say.

    `turns` are calls of the model, `tokens` those read and written together. After `idle_turns`
    in a row that only repeat earlier calls the model is told, and after one more it is over. So it
    is after `failed_turns` in a row of whose calls none succeeded, and once `repairs` answers in
    place of one that did not fit do not fit either. Of a conversation of more than
    `context_tokens` its model reads the latest turns, and where it `sums_up`, notes of the others.
    """

    turns: int = DEFAULT_TURNS
    tokens: int | None = None
    idle_turns: int = 3
    failed_turns: int = 5
    calls_per_turn: int = 16
    repairs: int = DEFAULT_REPAIRS
    context_tokens: int | None = None
    sums_up: bool = False


class Phase(StrEnum):
    NEW = "new"
    THINKING = "thinking"  # the model has the word
    SUMMING = "summing"  # the model sums up what it will not be shown again
    ACTING = "acting"  # tools are at work
    ENDED = "ended"


_ASKED: Final = frozenset({Phase.THINKING, Phase.SUMMING})


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that a conversation has come to; plain data, fit to be kept as JSON.

    `request` is how it began, and `messages` what was said since, of which `window` is shown.
    `calls` are those of the last turn, `results` what has come of them so far, `made` the marks of
    all that were made. `is_shortened`: the last request had to become shorter than it may be.
    """

    request: ModelRequest
    limits: LoopLimits
    phase: Phase = Phase.NEW
    messages: tuple[Message, ...] = ()
    turn: int = 0
    tokens: int = 0
    repairs: int = 0
    failed_turns: int = 0
    idle_turns: int = 0
    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolResult, ...] = ()
    made: tuple[str, ...] = ()
    window: pruning.Window = field(default_factory=pruning.Window)
    is_shortened: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    pass


@dataclass(frozen=True, slots=True)
class Answered:
    reply: ModelReply


@dataclass(frozen=True, slots=True)
class TooLong:
    """The request was more than the model takes."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class ToolFinished:
    call_id: str
    output: JsonValue


@dataclass(frozen=True, slots=True)
class ToolFailed:
    call_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class TimeIsUp:
    pass


Event = Started | Answered | TooLong | ToolFinished | ToolFailed | TimeIsUp


@dataclass(frozen=True, slots=True)
class CallModel:
    request: ModelRequest


@dataclass(frozen=True, slots=True)
class CallTools:
    """Calls that need nothing from each other. Their names are known, their arguments objects."""

    turn: int
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Done:
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Failed:
    error: AgentsError


Effect = CallModel | CallTools | Done | Failed
Step = tuple[State, Effect | None]


def step(state: State, event: Event) -> Step:
    """What an event leads to; nothing, if it does not belong to what is under way."""
    match event:
        case Started() if state.phase is Phase.NEW:
            return _ask(state)
        case Answered(reply) if state.phase in _ASKED:
            return _heard(state, reply)
        case TooLong(error) if state.phase in _ASKED:
            is_summing = state.phase is Phase.SUMMING
            return _summed_up(state, "") if is_summing else _shorter(state, error)
        case ToolFinished(call_id, output) if call_id in _open_calls(state):
            return _observed(state, call_id, output, is_error=False)
        case ToolFailed(call_id, reason) if call_id in _open_calls(state):
            return _observed(state, call_id, reason, is_error=True)
        case TimeIsUp() if state.phase is not Phase.ENDED:
            return _over(state, AgentLimit.TIME, "it was not done within the time of its step")
    return state, None


def _ask(state: State) -> Step:
    limits = state.limits
    if state.turn >= limits.turns:
        return _over(state, AgentLimit.TURNS, f"it had no answer after {limits.turns} turns")
    if limits.tokens is not None and state.tokens >= limits.tokens:
        told = f"it had no answer after {state.tokens} tokens, and may use {limits.tokens}"
        return _over(state, AgentLimit.TOKENS, told)
    state = _fitted(state)
    conversation = _conversation(state)
    asked = Phase.THINKING, conversation.shown
    # The last turn is for the answer.
    if limits.sums_up and limits.context_tokens is not None and state.turn + 1 < limits.turns:
        summary = pruning.summary_request(conversation, tokens=limits.context_tokens)
        asked = (Phase.SUMMING, summary) if summary else asked
    phase, request = asked
    return replace(state, phase=phase, turn=state.turn + 1), CallModel(request)


def _conversation(state: State) -> pruning.Conversation:
    return pruning.Conversation(request=state.request, messages=state.messages, window=state.window)


def _fitted(state: State) -> State:
    """With no more shown than may be."""
    limits = state.limits
    if limits.context_tokens is None:
        return state
    fitted = pruning.pruned(
        _conversation(state), tokens=limits.context_tokens, with_summary=limits.sums_up
    )
    return replace(state, messages=fitted.messages, window=fitted.window)


def _heard(state: State, reply: ModelReply) -> Step:
    state = replace(state, tokens=state.tokens + reply.usage.total_tokens)
    if state.phase is Phase.THINKING:
        return _answered(state, reply)
    is_usable = reply.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
    return _summed_up(state, reply.text if is_usable else "")


def _summed_up(state: State, summary: str) -> Step:
    """Go on with the summary; without one, if it is empty."""
    most = state.limits.context_tokens or 0
    window = pruning.summed_up(_conversation(state), summary, tokens=most).window
    return _ask(replace(state, window=window))


def _shorter(state: State, error: ProviderError) -> Step:
    """Ask again with half of what was too long; once, and where something can be left out."""
    if state.limits.context_tokens is None or state.is_shortened:
        return _failed(state, error)
    before = _conversation(state)
    limits = replace(state.limits, context_tokens=max(1, before.tokens // 2))
    shorter = _fitted(replace(state, limits=limits, is_shortened=True))
    if _conversation(shorter).tokens >= before.tokens:
        return _failed(state, error)
    return _ask(shorter)


def _answered(state: State, reply: ModelReply) -> Step:
    if reply.finish_reason is FinishReason.CONTEXT_FULL:
        return _filled(state, reply)
    fault = _fault(state, reply)
    if fault is not None:
        return _failed(state, ProviderError(*fault, reply.provider))
    if state.is_shortened:
        state = replace(state, is_shortened=False)
    if reply.tool_calls and state.request.tools:
        return _act(state, reply)
    if reply.finish_reason is FinishReason.PAUSED:
        said = (reply.message,) if reply.text or reply.opaque else ()
        return _ask(replace(state, messages=(*state.messages, *said)))
    return _conclude(state, reply)


def _fault(state: State, reply: ModelReply) -> tuple[ProviderErrorKind, str] | None:
    """What makes an answer one that nothing can be done with."""
    has_tools = bool(state.request.tools)
    match reply.finish_reason:
        case FinishReason.REFUSED:
            return ProviderErrorKind.CONTENT_REFUSED, "the model declined to answer"
        case FinishReason.UNKNOWN:
            return ProviderErrorKind.PROTOCOL, "the answer ended without a known reason"
        case FinishReason.TOOL_CALLS if not has_tools:
            return ProviderErrorKind.PROTOCOL, "the model called a tool it was not given"
        case FinishReason.TOOL_CALLS if not reply.tool_calls:
            return ProviderErrorKind.PROTOCOL, "the model called tools without naming any"
        case FinishReason.PAUSED if not has_tools:
            return ProviderErrorKind.PROTOCOL, "the provider paused an answer that needs no tools"
    return None


def _filled(state: State, reply: ModelReply) -> Step:
    """The answer was cut where the model can hold no more: asked again with less, or taken."""
    told = "it has filled all that its model holds; shorten the prompt"
    error = ProviderError(ProviderErrorKind.CONTEXT_TOO_LONG, told, reply.provider)
    again = _shorter(state, error)
    is_over = isinstance(again[1], Failed)
    return _conclude(state, reply) if is_over and _is_answer(state, reply) else again


def _is_answer(state: State, reply: ModelReply) -> bool:
    """Whether what was cut may be taken as it is: a text may, JSON and calls may not."""
    is_text = state.request.output_schema is None and bool(reply.text.strip())
    return is_text and not reply.tool_calls


def _act(state: State, reply: ModelReply) -> Step:
    calls = _identified(state, reply.tool_calls)
    idle = state.idle_turns + 1 if {*map(_mark, calls)} <= {*state.made} else 0
    if idle > state.limits.idle_turns:
        names = ", ".join(sorted({call.name for call in calls}))
        told = f"it calls {names} with the same arguments over and over"
        return _over(state, AgentLimit.REPEATS, told)
    refusals = [_refusal(state, reply, number, call) for number, call in enumerate(calls)]
    state = replace(
        state,
        phase=Phase.ACTING,
        messages=(*state.messages, replace(reply.message, tool_calls=calls)),
        calls=calls,
        results=tuple(filter(None, refusals)),
        idle_turns=idle,
    )
    open_calls = _open_calls(state)
    due = tuple(call for call in calls if call.id in open_calls)
    state = replace(state, made=tuple(sorted({*state.made, *map(_mark, due)})))
    return (state, CallTools(state.turn, due)) if due else _told_results(state)


def _identified(state: State, calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """The calls with ids that none shares in this conversation: not every server gives such."""
    taken = {call.id for message in state.messages for call in message.tool_calls}
    found = []
    for number, call in enumerate(calls, start=1):
        call_id = values.clean_text(call.id)
        if not 0 < len(call_id) <= _LONGEST_ID or call_id in taken:
            call_id = f"call_{state.turn}_{number}"
        while call_id in taken:
            call_id += "_"
        taken.add(call_id)
        name = values.clean_text(call.name)
        found.append(ToolCall(id=call_id, name=name, arguments=_plain(call.arguments)))
    return tuple(found)


def _plain(arguments: JsonValue) -> JsonValue:
    """The arguments, or their text if they are no JSON that could be kept."""
    try:
        return values.parse(values.dump(arguments))
    except (ValueError, TypeError):
        return "(not JSON)"


def _mark(call: ToolCall) -> str:
    text = values.dump([call.name, values.dump(call.arguments)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _refusal(state: State, reply: ModelReply, number: int, call: ToolCall) -> ToolResult | None:
    """Why a call is not even tried, as the model is told; None if it is."""
    known = sorted(tool.name for tool in state.request.tools)
    most = state.limits.calls_per_turn
    if reply.finish_reason is FinishReason.LENGTH:
        told = observations.CUT
    elif call.name not in known:
        told = f"There is no tool of this name. Yours: {', '.join(known) or 'none'}."
    elif not isinstance(call.arguments, dict):
        told = "The arguments are not a JSON object."
    elif number >= most:
        told = f"Not called: at most {most} calls in one turn. Call it again by itself."
    else:
        return None
    return ToolResult(call_id=call.id, name=call.name, content=told, is_error=True)


def _open_calls(state: State) -> set[str]:
    if state.phase is not Phase.ACTING:
        return set()
    return {call.id for call in state.calls} - {result.call_id for result in state.results}


def _observed(state: State, call_id: str, output: JsonValue, *, is_error: bool) -> Step:
    name = next(call.name for call in state.calls if call.id == call_id)
    content = observations.delimited(values.clean(output))
    result = ToolResult(call_id=call_id, name=name, content=content, is_error=is_error)
    state = replace(state, results=(*state.results, result))
    return (state, None) if _open_calls(state) else _told_results(state)


def _told_results(state: State) -> Step:
    """All calls of the turn have their results: the model is told, in the order of its calls."""
    by_id = {result.call_id: result for result in state.results}
    results = [by_id[call.id] for call in state.calls]
    failed = state.failed_turns + 1 if all(result.is_error for result in results) else 0
    if failed >= state.limits.failed_turns:
        told = f"every call of {failed} turns in a row failed; the last: {results[-1].name}"
        return _over(state, AgentLimit.FAILURES, told)
    if state.idle_turns == state.limits.idle_turns:
        content = f"{results[-1].content}\n\n{observations.REPEATED}"
        results[-1] = replace(results[-1], content=content)
    message = Message("user", "", tool_results=tuple(results))
    told_state = replace(
        state, messages=(*state.messages, message), failed_turns=failed, calls=(), results=()
    )
    return _ask(told_state)


def _conclude(state: State, reply: ModelReply) -> Step:
    schema, is_cut = state.request.output_schema, reply.finish_reason is FinishReason.LENGTH
    try:
        if is_cut and not _is_answer(state, reply):
            raise OutputInvalidError(
                f"it was cut after {reply.usage.output_tokens} tokens of "
                f"{state.request.max_output_tokens} allowed (max_output_tokens); say less"
            )
        if state.request.tools and not reply.text.strip():
            raise OutputInvalidError("it is empty")
        output: JsonValue = reply.text if schema is None else parse_output(reply.text, schema)
    except OutputInvalidError as error:
        return _repair(state, reply, error)
    except AgentInvalidError as error:
        return _failed(state, error)
    return replace(state, phase=Phase.ENDED), Done(Outcome(output=output, text=reply.text))


def _repair(state: State, reply: ModelReply, error: OutputInvalidError) -> Step:
    """Show the model what is wrong with its answer, as often as may be."""
    if state.repairs >= state.limits.repairs:
        return _failed(state, error)
    said = [reply.message] if reply.text.strip() else []
    said.append(Message("user", observations.misfit(error, schema=state.request.output_schema)))
    return _ask(replace(state, messages=(*state.messages, *said), repairs=state.repairs + 1))


def _over(state: State, limit: AgentLimit, told: str) -> Step:
    return _failed(state, AgentLimitError(limit, told))


def _failed(state: State, error: AgentsError) -> Step:
    return replace(state, phase=Phase.ENDED), Failed(error)
