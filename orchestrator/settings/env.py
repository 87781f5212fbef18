"""Typed readers of the environment. Bad text is refused at start, with the variable's name.

Every `NAME` may also be given as `NAME_FILE`, the path of a file that holds the value.
"""

import base64
import os
import re
from decimal import Decimal, InvalidOperation
from importlib.metadata import entry_points
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from costs.core.money import nano_from_text

_env = environ.FileAwareEnv()
_FERNET_BYTES = 32
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def load_file(path: Path) -> None:
    """Take `KEY=value` lines of a file as defaults; the real environment wins."""
    if path.is_file():
        environ.Env.read_env(str(path))


def env_text(name: str, default: str = "") -> str:
    return str(_env.str(name, default)).strip()


def env_bool(name: str, *, default: bool) -> bool:
    text = env_text(name, str(default)).lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name}={text!r} is not a yes or no; use true or false.")


def env_int(name: str, default: int, *, minimum: int = 0) -> int:
    text = env_text(name, str(default))
    try:
        value = int(text)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={text!r} is not a whole number.") from None
    if value < minimum:
        raise ImproperlyConfigured(f"{name}={value} is below {minimum}.")
    return value


def env_float(name: str, default: float) -> float:
    text = env_text(name, str(default))
    try:
        return float(text)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={text!r} is not a number.") from None


def env_list(name: str) -> list[str]:
    return [part.strip() for part in env_text(name).split(",") if part.strip()]


def fernet_keys(name: str, keys: list[str]) -> list[str]:
    """The keys of a variable, if all have the form that Fernet asks for. No key is ever shown."""
    for number, key in enumerate(keys, start=1):
        if not _is_fernet_key(key):
            raise ImproperlyConfigured(
                f"{name}: key {number} of {len(keys)} is not 32 bytes in URL-safe base64; "
                f"docs/operations.md tells how to make one."
            )
    return keys


def _is_fernet_key(key: str) -> bool:
    try:
        raw = base64.urlsafe_b64decode(key)
    except ValueError:
        return False
    # The decoder passes over what it does not know, and over a second key behind the first.
    return len(raw) == _FERNET_BYTES and base64.urlsafe_b64encode(raw).decode() == key


def networks(name: str, texts: list[str]) -> list[IPv4Network | IPv6Network]:
    try:
        return [ip_network(text) for text in texts]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}; write networks such as 10.0.0.0/8.") from None


class McpCommand(BaseModel):
    """A program of the operator's that serves MCP over its pipes, and the tenants that have it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str = Field(min_length=1)
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    tenants: tuple[str, ...]


_MCP_COMMANDS = TypeAdapter(dict[str, McpCommand])


def mcp_commands(name: str, text: str) -> dict[str, dict[str, Any]]:
    """By their names, from JSON."""
    try:
        found = _MCP_COMMANDS.validate_json(text or "{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "/".join(str(part) for part in first["loc"])
        raise ImproperlyConfigured(f"{name}: {place}: {first['msg']}.") from None
    return {key: command.model_dump() for key, command in found.items()}


def hosts(name: str, texts: list[str]) -> frozenset[tuple[str, int]]:
    """Hosts with their ports: `intranet.example`, which stands for 80 and 443, or `[::1]:8080`."""
    found: set[tuple[str, int]] = set()
    for text in texts:
        try:
            parts = urlsplit(f"//{text}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or parts.netloc != text or "@" in text:
            raise ImproperlyConfigured(f"{name}: {text!r} is not a host, or a host and a port.")
        found |= {(host, port)} if port else {(host, 80), (host, 443)}
    return frozenset(found)


def factors(name: str, texts: list[str]) -> dict[str, Decimal]:
    """Shares by name, such as `openai=0.5`."""
    found: dict[str, Decimal] = {}
    for text in texts:
        key, _, number = text.partition("=")
        try:
            share = Decimal(number)
        except InvalidOperation:
            share = Decimal(-1)
        if not key or not share.is_finite() or not 0 <= share <= 1:
            raise ImproperlyConfigured(f"{name}: {text!r} is not a name and a share from 0 to 1.")
        found[key] = share
    return found


def nano_usd(name: str, text: str) -> int | None:
    """An amount such as 0.50, in nano-USD; None if it is empty."""
    if not text:
        return None
    try:
        return nano_from_text(text)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}={text!r}: {error}.") from None


def env_database(name: str) -> dict[str, Any]:
    """Django's settings for a `postgres://user:password@host:port/name?option=value` URL."""
    url = env_text(name)
    if not url:
        return {"ENGINE": "django.db.backends.postgresql", "NAME": ""}
    parsed = dict(environ.Env.db_url_config(url))
    if parsed.get("ENGINE") != "django.db.backends.postgresql":
        raise ImproperlyConfigured(
            f"{name} must be a postgres:// URL; Muster runs on PostgreSQL only."
        )
    return parsed


def require(*names: str) -> None:
    """Refuse to start while a variable is missing; names all of them at once."""
    missing = [n for n in names if not os.environ.get(n) and not os.environ.get(f"{n}_FILE")]
    if missing:
        raise ImproperlyConfigured(
            f"Set {', '.join(missing)} (or NAME_FILE with a path). See docs/deployment.md."
        )


def package_providers() -> list[str]:
    """The model providers that installed packages bring, by the names of their entry points.

    Nothing is imported for it; what is wrong with one is told where it is loaded.
    """
    names = {point.name for point in entry_points(group="muster.providers")}
    # "tool" stands where credentials for tools have their provider.
    return sorted(name for name in names - {"tool"} if re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name))
