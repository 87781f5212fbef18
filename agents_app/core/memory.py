"""What agents remember: typed entries, whose they are, and the port through which they are kept."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Protocol, Union, get_args
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from agents_app.core import values
from agents_app.core.errors import MemoryRefusedError

MAX_ENTRY_BYTES: Final = 16_000
MAX_KEY: Final = 200
MOST_FOUND: Final = 50


class MemoryScope(StrEnum):
    """Who shares an entry, and for how long."""

    RUN = "run"  # all agents of a run
    AGENT = "agent"  # a saved agent, in whatever run it works
    TENANT = "tenant"  # all agents of the tenant


class MemoryContent(BaseModel):
    """What an entry holds. A type of one's own derives from this and goes to `MEMORY_TYPES.add`.

    It has a field `kind`, a Literal of one word with itself as default. `text` is what a search
    looks at, and what a model is shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: str

    @property
    def text(self) -> str:
        return values.dump(self.content)

    @property
    def content(self) -> dict[str, JsonValue]:
        """Its fields as JSON, the kind left out."""
        found: dict[str, JsonValue] = self.model_dump(mode="json", exclude={"kind"})
        return found


class Note(MemoryContent):
    """A fact worth knowing."""

    kind: Literal["note"] = "note"
    note: str

    @property
    def text(self) -> str:
        return self.note


class ConversationTurn(MemoryContent):
    kind: Literal["conversation"] = "conversation"
    role: Literal["user", "assistant"]
    said: str

    @property
    def text(self) -> str:
        return f"{self.role}: {self.said}"


class ToolExecution(MemoryContent):
    """A call of a tool, and what came of it: an output, or an error."""

    kind: Literal["tool_execution"] = "tool_execution"
    tool: str
    arguments: JsonValue = None
    output: JsonValue = None
    error: str | None = None


class Reasoning(MemoryContent):
    """A step in a train of thought."""

    kind: Literal["reasoning"] = "reasoning"
    thought: str

    @property
    def text(self) -> str:
        return self.thought


class ContextValue(MemoryContent):
    """Whatever else is good to have at hand, as JSON."""

    kind: Literal["context"] = "context"
    value: JsonValue

    @property
    def text(self) -> str:
        return values.as_text(self.value)


class MemoryTypes:
    """The known types by their kind."""

    def __init__(self, *types: type[MemoryContent]) -> None:
        self._types: dict[str, type[MemoryContent]] = {}
        for each in types:
            self.add(each)

    def add(self, content: type[MemoryContent]) -> None:
        kinds = get_args(content.model_fields["kind"].annotation)
        if len(kinds) != 1:
            raise TypeError(f"{content.__name__} needs a `kind` that is a Literal of one word")
        if self._types.setdefault(kinds[0], content) is not content:
            raise ValueError(f"two types of memory are of kind {kinds[0]!r}")
        union: Any = Union[tuple(self._types.values())]  # noqa: UP007 - of as many as there are
        self._any: TypeAdapter[Any] = TypeAdapter(union)
        if len(self._types) > 1:
            self._any = TypeAdapter(Annotated[union, Field(discriminator="kind")])

    def __contains__(self, kind: object) -> bool:
        return kind in self._types

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def read(self, kind: str, content: JsonValue) -> MemoryContent:
        """What an entry holds. Raises MemoryFaultError if that is not of its type."""
        if not isinstance(content, dict):
            raise MemoryFaultError(f"an entry is an object, and this is {type(content).__name__}")
        try:
            read: MemoryContent = self._any.validate_python({**content, "kind": kind})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"][1:]) or "entry"
            raise MemoryFaultError(f"{place}: {first['msg']}") from error
        return read


class MemoryFaultError(MemoryRefusedError):
    """What is kept cannot be read as what it says it is."""


MEMORY_TYPES: Final = MemoryTypes(Note, ConversationTurn, ToolExecution, Reasoning, ContextValue)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """An entry as it was found. `version` counts its changes from 1."""

    id: UUID
    scope: MemoryScope
    key: str
    content: MemoryContent
    version: int
    updated_at: datetime


class Memory(Protocol):
    """What an agent may keep and find, its own and what it shares with others.

    All raise MemoryRefusedError in words that a model may read. `call_id` names a change: the
    same change, told again by an attempt that goes on for another, is made once.
    """

    @property
    def scopes(self) -> Sequence[MemoryScope]:
        """Those that it has: an agent that is not saved has no memory of its own."""
        ...

    def keep(
        self,
        scope: MemoryScope,
        content: MemoryContent,
        *,
        call_id: UUID,
        key: str | None = None,
        expected_version: int | None = None,
        days: int | None = None,
    ) -> int:
        """Write an entry, new or over the one of this key; the version that it has now.

        With `expected_version` nothing is written unless the entry is at it still (0: there is
        none), and MemoryConflictError is raised. Past `days` it is forgotten.
        """
        ...

    def forget(self, scope: MemoryScope, key: str, *, call_id: UUID) -> bool:
        """Whether there was such an entry."""
        ...

    def read(self, scope: MemoryScope, key: str) -> Remembered | None: ...

    def search(
        self,
        query: str,
        *,
        scopes: Collection[MemoryScope],
        kinds: Collection[str] = (),
        limit: int = 5,
    ) -> Sequence[Remembered]:
        """The entries that fit best, best first; without a query the latest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is searched for, in which places: those of a scope and whose it is."""

    tenant_id: UUID
    query: str
    places: Sequence[tuple[MemoryScope, str]]
    kinds: Sequence[str] = ()
    limit: int = 5


class Searcher(Protocol):
    """Finds entries that fit a query.

    It is made anew for each search, with a function that runs one SQL statement as the tenant. No
    connection is held between two statements, so it may ask somebody else in the meantime.
    """

    def found(self, wanted: Wanted) -> Sequence[Remembered]:
        """Best first, none but from the wanted places. What cannot be read is left out."""
        ...


def checked_key(key: str) -> str:
    cleaned = values.clean_text(key).strip()
    if not 0 < len(cleaned) <= MAX_KEY:
        raise MemoryRefusedError(f"a key has 1 to {MAX_KEY} characters")
    return cleaned


def checked_content(content: MemoryContent) -> dict[str, JsonValue]:
    """What is kept of it, fit for the database."""
    kept = values.clean(content.content)
    size = values.json_size(kept)
    if size > MAX_ENTRY_BYTES:
        told = f"an entry has at most {MAX_ENTRY_BYTES:,} bytes, and this one {size:,}; keep less"
        raise MemoryRefusedError(told)
    return kept if isinstance(kept, dict) else {}
