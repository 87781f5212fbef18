"""Which provider, with which address and key; what its models take; and the way to its client."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import JsonValue

from agents_app.core.complexity import Complexity
from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import ModelClient, ModelRequest, TokenCount
from agents_app.core.plugins import ProviderPlugin
from agents_app.core.roles import Role
from agents_app.providers.batches import BatchClient


class ProviderKind(StrEnum):
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    XAI = "xai"
    OLLAMA = "ollama"
    LOCAL = "local"  # the llama.cpp server that comes with the platform
    COMPATIBLE = "compatible"  # any other server that speaks OpenAI's chat protocol
    SIMULATED = "simulated"  # answers made up in this process, with set delays and failures

    @classmethod
    def of(cls, name: str) -> "ProviderKind":
        """What a provider's models take, by its name; of a package's, what most of them do."""
        return cls(name) if name in {*cls} else cls.COMPATIBLE


# Given always, never left to the SDKs: they would fall back on the process's environment.
BASE_URLS: Mapping[ProviderKind, str] = {
    ProviderKind.OPENAI: "https://api.openai.com/v1",
    ProviderKind.ANTHROPIC: "https://api.anthropic.com",
    ProviderKind.XAI: "https://api.x.ai/v1",
}
NEEDS_KEY = frozenset({ProviderKind.OPENAI, ProviderKind.ANTHROPIC, ProviderKind.XAI})
# Others may do so too, in OpenAI's way: whoever sets up a compatible server knows.
_TAKES_BATCHES = frozenset({ProviderKind.OPENAI, ProviderKind.ANTHROPIC, ProviderKind.SIMULATED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """One provider as a tenant set it up. `models` gives a role, or a complexity, its own model.

    `options` are the defaults of a simulated provider, see `SimulatedOptions`. `is_guarded`: the
    address is a tenant's own, so it may not lead into the operator's network. `has_batches`: its
    server is known to take batches. `plugin` is what a package brings; `fault` is why that cannot
    be used.
    """

    name: str
    kind: ProviderKind
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    default_model: str = ""
    models: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, JsonValue] = field(default_factory=dict)
    is_guarded: bool = False
    has_batches: bool = False
    plugin: ProviderPlugin | None = None
    fault: str = ""

    @property
    def takes_batches(self) -> bool:
        return self.has_batches or self.kind in _TAKES_BATCHES

    @property
    def address(self) -> str:
        of_plugin = self.plugin.address if self.plugin else ""
        return self.base_url or of_plugin or BASE_URLS.get(self.kind, "")

    @property
    def needs_key(self) -> bool:
        return self.plugin.needs_key if self.plugin else self.kind in NEEDS_KEY

    def model_for(self, role: Role | None) -> str:
        return (self.models.get(role) if role else None) or self.default_model

    def model_for_complexity(self, complexity: Complexity, role: Role | None) -> str:
        return self.models.get(complexity) or self.model_for(role)


def configuration_problem(settings: ProviderSettings) -> str | None:
    """Why no call can be made with these settings, or None; without any network."""
    if settings.fault:
        return settings.fault
    if settings.kind is ProviderKind.SIMULATED:
        return None
    if not settings.address:
        return "it has no address"
    if not _is_http_url(settings.address):
        return "its address is not an http or https URL"
    if not settings.api_key and settings.needs_key:
        return "it has no API key"
    # Header text: anything else would fail deep inside the HTTP library, with the key shown.
    if not (settings.api_key.isascii() and settings.api_key.isprintable()):
        return "its API key holds characters that no header can carry"
    return None


class ProviderClient(ModelClient, Protocol):
    """What stands behind the gateway: a model client that also lists its models, and counts."""

    @property
    def batches(self) -> BatchClient:
        """How it takes many requests at a time, where its settings say that it does."""
        ...

    def models(self, *, deadline_seconds: float) -> list[str]: ...

    def count_tokens(self, request: ModelRequest) -> TokenCount:
        """What the provider would count as input, without asking the model."""
        ...


class _Clients:
    """Clients by address and credential: made once, used by all threads, oldest out first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], ProviderClient] = OrderedDict()

    def get(self, key: tuple[str, ...], make: Callable[[], ProviderClient]) -> ProviderClient:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
            self._kept.move_to_end(key)
            if len(self._kept) > self._limit:
                # Not closed: another thread may be in a call, and connections are not its own.
                self._kept.popitem(last=False)
            return self._kept[key]


_clients = _Clients(limit=1000)


def client_for(settings: ProviderSettings) -> ProviderClient:
    """The client for a provider and credential. ProviderError if it is not configured.

    SDKs are imported here, on the first use of a kind: together they take 1.5 s and 120 MB.
    """
    problem = configuration_problem(settings)
    if problem:
        raise ProviderError(ProviderErrorKind.NOT_CONFIGURED, problem, settings.name)
    if settings.kind is ProviderKind.SIMULATED:
        from agents_app.providers.simulated import SimulatedClient

        return SimulatedClient(settings)
    guard = "guarded" if settings.is_guarded else ""
    key = (settings.name, settings.kind, settings.address, settings.api_key, guard)
    return _clients.get(key, lambda: vendor_client(settings))


def vendor_client(settings: ProviderSettings) -> ProviderClient:
    """A client of its own, which nobody keeps but the caller; the settings are sound."""
    if settings.plugin is not None:
        from agents_app.providers.plugin import KeptToIt

        return KeptToIt(settings)
    if settings.kind is ProviderKind.ANTHROPIC:
        from agents_app.providers.anthropic_client import AnthropicClient

        return AnthropicClient(settings)
    from agents_app.providers.openai_client import OpenAIClient

    return OpenAIClient(settings)


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
