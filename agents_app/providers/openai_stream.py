"""An answer of OpenAI's chat protocol, put together from its pieces."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from agents_app.providers.answers import first
from agents_app.providers.hearing import Listener
from agents_app.providers.streams import DONE, Event, cut_off, put_together

# What comes in pieces that follow one another; all else comes whole.
_TEXTS = ("content", "refusal", "reasoning_content")
_TEXTS_OF_PARTS = ("text", "summary", "data")


def gathered(events: Iterable[Event], *, listener: Listener, provider: str) -> dict[str, Any]:
    """The answer as it would have come in one piece."""
    answer = _Answer(listener)
    for event in events:
        answer.take(event)
    if not answer.has_ended:
        raise cut_off(provider)
    return put_together(answer.body, provider=provider)


class _Answer:
    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._head: dict[str, Any] = {}
        self._usage: object = None
        self._finish: object = None
        self._texts: defaultdict[str, list[str]] = defaultdict(list)
        self._details: list[dict[str, Any]] = []
        self._calls: list[_Call] = []
        self._rest: dict[str, Any] = {}
        self._is_done = False

    @property
    def has_ended(self) -> bool:
        return self._is_done or bool(self._finish)

    @property
    def body(self) -> dict[str, Any]:
        message = {name: "".join(pieces) for name, pieces in self._texts.items()} | self._rest
        if self._details:
            message["reasoning_details"] = self._details
        if self._calls:
            message["tool_calls"] = [call.whole for call in self._calls]
        choice = {"message": message, "finish_reason": self._finish}
        return {**self._head, "choices": [choice], "usage": self._usage}

    def take(self, event: Event) -> None:
        if event is DONE:
            self._is_done = True
            return
        for name in ("id", "model"):
            self._head.setdefault(name, event.get(name))
        # Some servers count in every piece, and state the whole in the last.
        self._usage = event.get("usage") or self._usage
        choice = first(event.get("choices"))
        if choice.get("index"):
            return
        self._finish = choice.get("finish_reason") or self._finish
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._take_delta(delta)

    def _take_delta(self, delta: dict[str, Any]) -> None:
        for name in _TEXTS:
            piece = delta.get(name)
            if isinstance(piece, str) and piece:
                self._texts[name].append(piece)
                if name == "content":
                    self._listener(piece)
        if delta.get("extra_content"):
            self._rest["extra_content"] = delta["extra_content"]
        for part in _objects(delta.get("reasoning_details")):
            self._take_detail(part)
        for piece in _objects(delta.get("tool_calls")):
            self._call_of(piece).take(piece)

    def _take_detail(self, part: dict[str, Any]) -> None:
        before = self._details[-1] if self._details else {}
        same = before.get("type") == part.get("type") and before.get("index") == part.get("index")
        if not (before and same):
            self._details.append(dict(part))
            return
        for name, value in part.items():
            if name in _TEXTS_OF_PARTS and isinstance(value, str):
                before[name] = str(before.get(name) or "") + value
            elif value:
                before[name] = value

    def _call_of(self, piece: dict[str, Any]) -> "_Call":
        """The call that a piece goes on with, or a new one.

        Some servers number all calls alike, and some do not number them.
        """
        number = piece.get("index")
        for call in reversed(self._calls):
            if (number is None or call.number == number) and call.goes_on_with(piece):
                return call
        self._calls.append(_Call(number))
        return self._calls[-1]


class _Call:
    def __init__(self, number: object) -> None:
        self.number = number
        self._whole: dict[str, Any] = {}
        self._function: dict[str, Any] = {}
        self._arguments: list[str] = []

    @property
    def whole(self) -> dict[str, Any]:
        arguments = "".join(self._arguments)
        function = {"arguments": arguments, **self._function}
        return {**self._whole, "function": function}

    def goes_on_with(self, piece: dict[str, Any]) -> bool:
        return not piece.get("id") or piece["id"] == self._whole.get("id")

    def take(self, piece: dict[str, Any]) -> None:
        function = piece.get("function")
        self._whole |= {name: value for name, value in piece.items() if value}
        if not isinstance(function, dict):
            return
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            self._arguments.append(arguments)
        elif arguments:
            self._function["arguments"] = arguments  # in one piece, and not as text
        if function.get("name"):
            self._function["name"] = function["name"]


def _objects(pieces: object) -> list[dict[str, Any]]:
    return [each for each in pieces if isinstance(each, dict)] if isinstance(pieces, list) else []
