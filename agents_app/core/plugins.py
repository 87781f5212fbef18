"""What plugins bring, and which of them are broken."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Final, Literal

from agents_app.core.custom import CustomAgent
from agents_app.core.tool_sources import Source

# Files of the operator's folder are modules of this package, which nobody else can import.
PLUGIN_PACKAGE: Final = "muster_plugins"
Kind = Literal["agent", "tool", "provider"]
# As the variables of its settings can begin with it, and its column holds it.
PROVIDER_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


class ProviderPlugin:
    """What is known of a model provider that a package brings, without a way to its client."""

    address: ClassVar[str] = ""
    needs_key: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAgent:
    """A custom agent and where it comes from: a file's name, or a package's."""

    name: str
    description: str
    capabilities: tuple[str, ...]
    source: str
    agent: CustomAgent


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTool:
    name: str
    source: str
    tool: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundProvider:
    """A model provider under the name of its entry point."""

    name: str
    source: str
    provider: ProviderPlugin


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenPlugin:
    """What cannot be used, and every reason why. Without a `kind` nobody knows what it was."""

    name: str
    source: str
    reasons: tuple[str, ...]
    kind: Kind | None = None

    def __str__(self) -> str:
        return f"{self.source}: {'; '.join(self.reasons)}"

    def may_be(self, kind: Kind) -> bool:
        return self.kind in (None, kind)


Found = FoundAgent | FoundTool | FoundProvider | BrokenPlugin


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    agents: Mapping[str, FoundAgent] = field(default_factory=lambda: MappingProxyType({}))
    tools: Sequence[FoundTool] = ()
    providers: Mapping[str, FoundProvider] = field(default_factory=lambda: MappingProxyType({}))
    broken: Sequence[BrokenPlugin] = ()

    def fault_of_agent(self, name: str) -> str | None:
        """Why there is no custom agent of this name; None if there is one."""
        if name in self.agents:
            return None
        told = [str(each) for each in self.broken if each.name == name and each.may_be("agent")]
        if told:
            return f"the custom agent {name!r} is broken: {'; '.join(told)}"
        known = ", ".join(self.agents) or "none"
        return f"there is no custom agent {name!r}; known: {known}"

    def fault_of_provider(self, name: str) -> str:
        """Why no package brings the provider of this name, in words; empty if one does."""
        if name in self.providers:
            return ""
        told = [str(each) for each in self.broken if (each.name, each.kind) == (name, "provider")]
        return f"its package is broken: {'; '.join(told)}" if told else "its package is gone"


def sorted_out(found: Iterable[Found], *, taken: Mapping[Kind, Collection[str]]) -> Plugins:
    """Those that can be used. Of a name that is there twice, or built in, none can."""
    listed = sorted(found, key=lambda each: (each.name, each.source))
    counts = Counter((_kind(each), each.name) for each in listed)
    broken, usable = [], []
    for each in listed:
        if isinstance(each, BrokenPlugin):
            broken.append(each)
        elif each.name in taken[_kind(each)]:
            broken.append(_refused(each, f"{each.name!r} is the name of a built-in {_kind(each)}"))
        elif counts[_kind(each), each.name] > 1:
            where = ", ".join(other.source for other in listed if _is_other(other, each))
            told = f"another {_kind(each)} is named {each.name!r}, in {where}; rename one"
            broken.append(_refused(each, told))
        else:
            usable.append(each)
    return Plugins(
        agents=MappingProxyType({e.name: e for e in usable if isinstance(e, FoundAgent)}),
        tools=tuple(each for each in usable if isinstance(each, FoundTool)),
        providers=MappingProxyType({e.name: e for e in usable if isinstance(e, FoundProvider)}),
        broken=tuple(broken),
    )


def _kind(each: Found) -> Kind:
    if isinstance(each, BrokenPlugin):
        return each.kind or "agent"
    if isinstance(each, FoundProvider):
        return "provider"
    return "tool" if isinstance(each, FoundTool) else "agent"


def _is_other(other: Found, each: Found) -> bool:
    return (other.name, _kind(other)) == (each.name, _kind(each)) and other is not each


def _refused(each: FoundAgent | FoundTool | FoundProvider, reason: str) -> BrokenPlugin:
    return BrokenPlugin(name=each.name, source=each.source, reasons=(reason,), kind=_kind(each))
