"""Which addresses tools may go to: those of the public web, in one plain form."""

import re
from collections.abc import Collection
from ipaddress import ip_address
from typing import Final

import httpx2
from django.conf import settings

from agents_app.core.errors import AgentsError
from agents_app.providers.transport import Target
from tenants.addresses import may_be_reached

WEB_PORTS: Final = frozenset({80, 443})
_LONGEST: Final = 2_000
_PORTS: Final = {"http": 80, "https": 443}
_NAME: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*"
)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOCAL: Final = (".localhost", ".local", ".internal", ".home.arpa")


class WebRefusedError(AgentsError):
    """A tool may not go there, or may not take what it got; the text is fit for a model."""

    code = "web_refused"


def may_connect(target: Target) -> bool:
    """Asked of the very address that is dialled, so that a name gains nothing by changing."""
    return is_opened(target.host, target.port) or may_be_reached(target.address)


def web_address(text: str, *, ports: Collection[int] = WEB_PORTS) -> httpx2.URL:
    """The address that is meant, as it will be dialled. Raises WebRefusedError."""
    if len(text) > _LONGEST:
        raise WebRefusedError(f"the address has more than {_LONGEST} characters")
    if not text.isprintable() or any(each in text for each in " \\"):
        raise WebRefusedError("the address holds characters that no address has")
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError, TypeError):
        raise WebRefusedError("this is not an address of the web") from None
    if url.scheme not in _PORTS or not url.raw_host:
        raise WebRefusedError("the address has to begin with https:// or http:// and a host")
    if url.userinfo:
        raise WebRefusedError("the address may not hold a user name or password")
    host = url.raw_host.decode("ascii").lower().rstrip(".")
    port = url.port or _PORTS[url.scheme]
    check_host(host, port)
    if port not in ports and not is_opened(host, port):
        raise WebRefusedError(f"port {port} may not be used")
    return url.copy_with(host=host, fragment=None)


def is_opened(host: str, port: int) -> bool:
    """Whether the operator has opened this very host to tools."""
    return (host, port) in settings.MUSTER_TOOL_PRIVATE_HOSTS


def check_host(host: str, port: int) -> None:
    """Raises WebRefusedError for a host that is not to be found in the public internet."""
    if is_opened(host, port):
        return
    try:
        ip_address(host)
    except ValueError:
        _check_name(host)
        return
    if not may_be_reached(host):
        raise WebRefusedError("the address leads into a private network")


def _check_name(host: str) -> None:
    # The system's resolver takes 2130706433, 0x7f.1 and 127.1 for addresses.
    if not _NAME.fullmatch(host) or _NUMBER.fullmatch(host.rpartition(".")[2]):
        raise WebRefusedError("the host of the address is not written as hosts are")
    if host == "localhost" or host.endswith(_LOCAL):
        raise WebRefusedError("the address leads into a private network")
