"""What an agent remembers of earlier work, put behind its prompt where it is set to."""

from dataclasses import replace
from typing import Final

from pydantic import JsonValue

from agents_app.core import observations, values
from agents_app.core.agent import AgentConfig, Ports
from agents_app.core.journal import ToolEnd
from agents_app.core.memory import Memory, MemoryScope, Remembered
from agents_app.core.memory_settings import MemorySettings
from agents_app.core.model import ToolCall

MOST_BYTES_OF_ENTRY: Final = 1_000
# With its key, of which each character has up to four bytes, and marks in both made harmless.
_MOST_AROUND_ENTRY: Final = 3_000
_AROUND_ALL: Final = 600
_LONG_TERM: Final = (MemoryScope.AGENT, MemoryScope.TENANT)
_QUERY: Final = 2_000
# Before the first turn; kept like a call of a tool, so that whoever goes on recalls the same.
_TURN, _CALL = 0, "memory"


def recalled(config: AgentConfig, ports: Ports) -> AgentConfig:
    """The agent with what it remembers behind its prompt, if it is to."""
    memory = ports.context.memory if ports.context else None
    limit = MemorySettings.of(config).recall if config.memory else None
    if memory is None or limit is None:
        return config
    asked = ToolCall(
        id=_CALL, name="recall", arguments={"query": config.prompt[:_QUERY], "limit": limit}
    )
    known = ports.journal.begin(_TURN, [asked], repeatable={asked.name})
    end = known.get(_CALL)
    if end is None:
        end = ToolEnd(output=_entries(memory, config.prompt, limit))
        ports.journal.end(_TURN, _CALL, end)
    if not isinstance(end.output, list) or not end.output:
        return config
    return replace(
        config,
        prompt=f"{config.prompt}\n\n{observations.recalled(end.output)}",
        # Patterns read what is asked, not what was kept.
        objective=config.objective or config.prompt,
    )


def _entries(memory: Memory, query: str, limit: int) -> list[JsonValue]:
    found = memory.search(query[:_QUERY], scopes=_LONG_TERM, limit=limit)
    return [told(entry, most_bytes=MOST_BYTES_OF_ENTRY) for entry in found]


def told(entry: Remembered, *, most_bytes: int) -> dict[str, JsonValue]:
    """An entry as a model is shown it."""
    return {
        "key": entry.key,
        "whose": entry.scope.value,
        "kept": entry.updated_at.date().isoformat(),
        "text": values.cut(entry.content.text, most_bytes=most_bytes),
    }


def most_recalled_bytes(memory: JsonValue) -> int:
    """The longest that what these settings put behind a prompt can be."""
    recall = memory.get("recall") if isinstance(memory, dict) else None
    return _AROUND_ALL + recall * _MOST_AROUND_ENTRY if isinstance(recall, int) else 0
