"""An answer of Anthropic's Messages API, put together from its pieces."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from agents_app.core import values
from agents_app.providers.hearing import Listener
from agents_app.providers.streams import Event, cut_off, put_together

# Which part of a block each kind of piece goes on with.
_PARTS = {
    "text_delta": "text",
    "input_json_delta": "partial_json",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
}


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
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, _Block] = {}
        self._is_done = False

    @property
    def has_ended(self) -> bool:
        return self._is_done or bool(self._message.get("stop_reason"))

    @property
    def body(self) -> dict[str, Any]:
        content = [block.whole for _, block in sorted(self._blocks.items())]
        return {**self._message, "content": content, "usage": self._usage or None}

    def take(self, event: Event) -> None:
        match event:
            case {"type": "message_start", "message": dict(message)}:
                self._message |= message
                self._count(message.get("usage"))
            case {"type": "content_block_start", "index": int(at), "content_block": dict(block)}:
                self._blocks[at] = _Block(block)
                self._say(block.get("text"))
            case {"type": "content_block_delta", "index": int(at), "delta": dict(delta)}:
                self._blocks.setdefault(at, _Block({"type": "text"})).take(delta)
                self._say(delta.get("text"))
            case {"type": "message_delta", "delta": dict(delta)}:
                self._message |= delta
                self._count(event.get("usage"))
            case {"type": "message_stop"}:
                self._is_done = True

    def _say(self, text: object) -> None:
        if isinstance(text, str) and text:
            self._listener(text)

    def _count(self, usage: object) -> None:
        """Counts are of the whole so far; what the last word leaves out, the first has said."""
        if isinstance(usage, Mapping):
            self._usage |= {name: count for name, count in usage.items() if count is not None}


class _Block:
    def __init__(self, start: Mapping[str, Any]) -> None:
        self._start = dict(start)
        self._pieces: defaultdict[str, list[str]] = defaultdict(list)
        self._citations: list[Any] = []

    def take(self, delta: Mapping[str, Any]) -> None:
        name = _PARTS.get(str(delta.get("type")))
        piece = delta.get(name) if name else None
        if name and isinstance(piece, str):
            self._pieces[name].append(piece)
        if delta.get("type") == "citations_delta":
            self._citations.append(delta.get("citation"))

    @property
    def whole(self) -> dict[str, Any]:
        whole = dict(self._start)
        for name, pieces in self._pieces.items():
            if name != "partial_json":
                whole[name] = str(whole.get(name) or "") + "".join(pieces)
        if self._citations:
            whole["citations"] = self._citations
        written = "".join(self._pieces["partial_json"])
        return whole | {"input": _parsed(written)} if written else whole


def _parsed(written: str) -> Any:
    """The input of a tool; its text, where that is no JSON, as in an answer that was cut."""
    try:
        return values.parse(written)
    except ValueError:
        return written
