"""What of a long conversation its model still gets to read: its task and the latest turns.

A turn is what the model says together with all that it is told upon it, so that no result of a
tool is ever without its call. Sizes are guesses from bytes, as prices have them; the same
conversation is always cut in the same way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from agents_app.core import observations, values
from agents_app.core.model import Message, ModelRequest, ToolResult
from costs.core.pricing import estimate_of_bytes, most_bytes_of_tokens

# Less than this of a result helps nobody.
LEAST_RESULT_BYTES = 200
_LEAST_SUMMARY_TOKENS = 16
_SUMMARY_SHARE = 4  # of what the task leaves of the budget, a summary takes up to a quarter


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of a conversation that is shown: all but the first `left_out` messages.

    `summary` stands for the first `summed` of them.
    """

    left_out: int = 0
    summed: int = 0
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """How it began, and what was said since."""

    request: ModelRequest
    messages: tuple[Message, ...]
    window: Window

    @property
    def shown(self) -> ModelRequest:
        """The request for the next turn."""
        if not self.messages and not self.window.left_out:
            return self.request
        window, (*before, task) = self.window, self.request.messages
        if window.left_out:
            content = f"{task.content}\n\n{observations.left_out(window.summary)}"
            task = replace(task, content=content)
        messages = (*before, task, *self.messages[window.left_out :])
        return replace(self.request, messages=messages)

    @property
    def tokens(self) -> int:
        """How long the next request is, by a fair guess."""
        return estimate_of_bytes(values.text_size(self.shown.prompt_text))


def pruned(conversation: Conversation, *, tokens: int, with_summary: bool) -> Conversation:
    """The conversation with no more shown than about `tokens`, and its last turn in any case.

    More is left out than has to be, so that requests begin alike for a few turns and are read
    from the provider's cache. Where the last turn alone is too long, what its tools brought is cut.
    """
    if conversation.tokens <= tokens:
        return conversation
    budget = _Budget(conversation, tokens=tokens, with_summary=with_summary)
    starts = _turn_starts(conversation.messages, since=conversation.window.left_out)
    kept = next((start for start in starts if budget.tail(start) <= budget.room // 2), None)
    if kept is None:
        kept = starts[-1] if starts else conversation.window.left_out
    window = replace(conversation.window, left_out=kept)
    messages = (*conversation.messages[:kept], *budget.cut(kept))
    return replace(conversation, window=window, messages=messages)


def summary_request(conversation: Conversation, *, tokens: int) -> ModelRequest | None:
    """What asks for a summary of the turns that were left out and are not yet summed up.

    It may take as many tokens as any answer: with fewer, a model that thinks first says nothing.
    """
    window, request = conversation.window, conversation.request
    unsummed = conversation.messages[window.summed : window.left_out]
    if not unsummed:
        return None
    asked = replace(
        request,
        system=observations.SUMMARY_RULES,
        messages=(Message("user", ""),),
        tools=(),
        output_schema=None,
    )
    room = most_bytes_of_tokens(tokens) - values.text_size(asked.prompt_text)
    content = observations.to_sum_up(
        task=request.messages[-1].content,
        before=window.summary,
        turns="\n\n".join(_told(message) for message in unsummed),
        most_bytes=max(room, LEAST_RESULT_BYTES),
    )
    return replace(asked, messages=(Message("user", content),))


def summed_up(conversation: Conversation, summary: str, *, tokens: int) -> Conversation:
    """With this in place of the turns that were left out; an empty one changes nothing."""
    window = replace(conversation.window, summed=conversation.window.left_out)
    if summary.strip():
        beside = replace(conversation, window=replace(window, summary="-")).tokens
        most = min(_summary_tokens(conversation, tokens), tokens - beside)
        notes = observations.harmless(values.clean_text(summary.strip()))
        cut = values.cut(notes, most_bytes=most_bytes_of_tokens(most))
        window = replace(window, summary=cut)
    return replace(conversation, window=window)


def _summary_tokens(conversation: Conversation, tokens: int) -> int:
    """The longest that a summary may become."""
    free = tokens - _fixed_tokens(conversation)
    return max(free // _SUMMARY_SHARE, _LEAST_SUMMARY_TOKENS)


def _fixed_tokens(conversation: Conversation) -> int:
    """What is read in any case: task, tools and system, and the note of what is missing."""
    window = Window(left_out=1, summary="-")
    return replace(conversation, messages=(), window=window).tokens


class _Budget:
    """What the turns may take, in bytes."""

    def __init__(self, conversation: Conversation, *, tokens: int, with_summary: bool) -> None:
        summary = conversation.window.summary
        taken = _fixed_tokens(conversation)
        if with_summary:
            taken += _summary_tokens(conversation, tokens)
        elif summary:
            taken += estimate_of_bytes(values.text_size(summary))
        # A byte for what rounding loses.
        self.room = max(0, most_bytes_of_tokens(tokens - taken) - 1)
        self._messages = conversation.messages
        sizes = [_size(message, conversation.request) for message in self._messages]
        self._from_end = [0, *accumulate(reversed(sizes))]

    def tail(self, start: int) -> int:
        """The size of the messages from there on."""
        return self._from_end[len(self._from_end) - 1 - start]

    def cut(self, start: int) -> Iterator[Message]:
        """The messages from there on, the results of tools cut to the room that they have."""
        sizes = [
            values.text_size(result.content)
            for message in self._messages[start:]
            for result in message.tool_results
        ]
        whole = self.tail(start)
        if whole <= self.room:
            yield from self._messages[start:]
            return
        most = _level(sizes, self.room - (whole - sum(sizes)))
        for message in self._messages[start:]:
            results = (_short(result, most) for result in message.tool_results)
            yield replace(message, tool_results=tuple(results))


def _size(message: Message, request: ModelRequest) -> int:
    opaque = request.opaque_of(message)
    wanted_back = 0 if opaque is None else values.json_size(opaque) + 1
    return values.text_size(message.text) + 1 + wanted_back


def _turn_starts(messages: Sequence[Message], *, since: int) -> list[int]:
    """Where turns begin behind the first that is shown: with what a model says to a user."""
    return [
        place
        for place in range(since + 1, len(messages))
        if messages[place].role == "assistant" and messages[place - 1].role == "user"
    ]


def _level(sizes: Sequence[int], room: int) -> int:
    """The most that each may have, so that all together fit: the short ones stay whole."""
    rest = sorted(sizes)
    while rest and rest[0] * len(rest) <= room:
        room -= rest.pop(0)
    return max(room // len(rest) if rest else 0, LEAST_RESULT_BYTES)


def _short(result: ToolResult, most: int) -> ToolResult:
    return replace(result, content=observations.shortened(result.content, most_bytes=most))


def _told(message: Message) -> str:
    return f"{message.role}: {message.text}"
