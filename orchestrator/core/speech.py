"""What a model writes, while it writes it: pieces on their way to those who follow its run."""

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

# A text that nobody has heard the beginning of is told from the last so many characters on.
MOST_KEPT: Final = 32_768
_TEXTS = ("call_id", "agent_run_id", "step", "text")
_NUMBERS = ("attempt", "turn", "offset")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A piece of one call's text, `offset` characters behind its beginning.

    `step` and `index` are the place of the agent run in its run. `is_last`: the call is over.
    """

    call_id: str
    agent_run_id: str
    step: str
    index: int | None
    attempt: int
    turn: int
    offset: int = 0
    text: str = ""
    is_last: bool = False

    @property
    def end(self) -> int:
        return self.offset + len(self.text)

    @property
    def facts(self) -> dict[str, Any]:
        """As listeners are told."""
        return {name: value for name, value in asdict(self).items() if name != "is_last"}

    def joined(self, piece: "Said") -> "Said":
        """This text with a piece that was heard later; the oldest of it is left out at length.

        Pieces are told again for those who come later, so they may overlap, or begin anew.
        """
        if not self.offset <= piece.offset <= self.end:
            return piece
        new = piece.text[self.end - piece.offset :]
        whole = self.text + new
        left_out = max(0, len(whole) - MOST_KEPT)
        is_last = self.is_last or piece.is_last
        offset = self.offset + left_out
        return replace(self, offset=offset, text=whole[left_out:], is_last=is_last)

    def behind(self, offset: int) -> "Said":
        """What of it follows a place."""
        start = min(max(offset, self.offset), self.end)
        return replace(self, offset=start, text=self.text[start - self.offset :])


def said_to_bytes(said: Said) -> bytes:
    return json.dumps(asdict(said), ensure_ascii=False).encode(errors="replace")


def said_from_bytes(message: bytes) -> Said | None:
    """None for what is no such thing, as of a release that says more."""
    try:
        stated = json.loads(message)
        said = Said(**{each.name: stated[each.name] for each in fields(Said)})
    except (ValueError, TypeError, KeyError):
        return None
    texts = all(isinstance(getattr(said, name), str) for name in _TEXTS)
    numbers = all(isinstance(getattr(said, name), int) for name in _NUMBERS)
    return said if texts and numbers else None
