"""The port through which the agents of a run share values, and keep some for themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from pydantic import JsonValue

from agents_app.core.errors import ContextRefusedError

MAX_KEY_LENGTH: Final = 200
MAX_VALUE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextValue:
    """A value as it was written: version 0 stands for what nobody has written yet."""

    key: str
    version: int
    value: JsonValue = None
    writer: str = ""
    written_at: datetime | None = None


class ContextStore(Protocol):
    """Values by key, shared by the run or, where `is_private`, of one agent alone.

    `call_id` names what is done: a call that is made again, since its worker died, writes nothing
    twice. What it raises beside ContextRefusedError and ContextConflictError ends the attempt.
    """

    def get(self, key: str, *, is_private: bool = False) -> ContextValue: ...

    def set(
        self,
        key: str,
        value: JsonValue,
        *,
        call_id: UUID,
        is_private: bool = False,
        expected_version: int | None = None,
    ) -> ContextValue:
        """Write the next version; only if the last is the expected one, where one is named.

        Raises ContextConflictError if it is not.
        """
        ...

    def wait(
        self, key: str, *, newer_than: int, seconds: float, is_private: bool = False
    ) -> ContextValue:
        """The value, as soon as it has a version above that or the time is over."""
        ...

    def history(self, key: str, *, is_private: bool = False) -> Sequence[ContextValue]:
        """The versions that are kept, the newest first."""
        ...


class _NoContext:
    def get(self, key: str, *, is_private: bool = False) -> ContextValue:
        return ContextValue(key=key, version=0)

    def set(
        self,
        key: str,
        value: JsonValue,
        *,
        call_id: UUID,
        is_private: bool = False,
        expected_version: int | None = None,
    ) -> ContextValue:
        raise ContextRefusedError("no_context", "there is nobody to share values with")

    def wait(
        self, key: str, *, newer_than: int, seconds: float, is_private: bool = False
    ) -> ContextValue:
        return self.get(key)

    def history(self, key: str, *, is_private: bool = False) -> Sequence[ContextValue]:
        return ()


NO_CONTEXT: Final[ContextStore] = _NoContext()
