"""Where tools come from: those that are the same for all tenants, and those made for one."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable
from uuid import UUID

from pydantic import BaseModel, JsonValue, ValidationError

from agents_app.core.tools import Tool

Settings = TypeVar("Settings", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOwner:
    """The tenant that tools are made for.

    `settings` is what its grants say, by the name of the tool. `secret` opens one of its
    credentials by name, and raises ToolSecretError; ask it when the tool is called, not before.
    """

    tenant_id: UUID
    settings: Mapping[str, Mapping[str, JsonValue]]
    secret: Callable[[str], str]

    def settings_of(self, tool: str, form: type[Settings]) -> Settings:
        """What is set for a tool; its defaults, where that does not fit (then it is withheld)."""
        try:
            return form.model_validate(self.settings.get(tool, {}))
        except ValidationError:
            return form()


@runtime_checkable
class ToolFactory(Protocol):
    """Makes the tools of a tenant. One instance serves all tenants and threads."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    def tools(self, owner: ToolOwner) -> Iterable[Tool]:
        """Called every few seconds inside the tenant's scope: it may read rows, and nothing else.

        The tools themselves are called without a scope. What it raises costs the tenant these
        tools, and is logged.
        """
        ...


Source = Tool | ToolFactory


class ToolSources:
    """All sources of an installation, in the order in which they were added."""

    def __init__(self, sources: Iterable[Source] = ()) -> None:
        self._sources: list[Source] = []
        for source in sources:
            self.add(source)

    def add(self, source: Source) -> None:
        if source.name in {each.name for each in self._sources}:
            raise ValueError(f"two sources of tools are named {source.name!r}")
        self._sources.append(source)

    def __iter__(self) -> Iterator[Source]:
        return iter(tuple(self._sources))
