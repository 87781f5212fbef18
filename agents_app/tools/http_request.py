"""Requests to the hosts that a tenant has named, with secrets that no model sees."""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Final, Literal

import httpx2
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from agents_app.core import values
from agents_app.core.tool_sources import ToolOwner
from agents_app.core.tools import Tool, tool
from agents_app.tools.blotting import Blot, without
from agents_app.tools.web_address import WebRefusedError, is_opened, web_address
from agents_app.tools.web_client import WebAnswer, WebRequest, fetch
from agents_app.tools.web_failures import failing_as
from agents_app.tools.web_fetch import MAX_RESULT_BYTES, Characters

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
READING: Final = frozenset({"GET", "HEAD"})
MAX_REQUEST_BYTES: Final = 256 * 1024
# Far more than is ever shown: to look for secrets takes its time.
_MOST_LOOKED_AT: Final = 500_000
_HOST: Final = re.compile(r"[a-z0-9.-]+|\[[0-9a-f:.]+\]")
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
# Who it is, where it goes and how it is framed are not for a model to say.
_NOT_TO_BE_SET: Final = frozenset(
    {
        *("authorization", "cookie", "host", "content-length", "transfer-encoding", "connection"),
        *("upgrade", "te", "trailer", "expect", "keep-alive", "accept-encoding", "forwarded"),
    }
)


class SecretHeader(BaseModel):
    """A header that every request to a host bears, out of a credential for tools."""

    model_config = ConfigDict(extra="forbid")

    host: str
    header: str = Field(default="Authorization", pattern=rf"^{_HEADER.pattern}$")
    prefix: str = Field(default="", max_length=50, pattern=r"^([!-~][ -~]*)?$")
    credential: str = Field(min_length=1, max_length=100)


class HttpSettings(BaseModel):
    """Which hosts may be asked (`api.example.com`, or with a port), and how."""

    model_config = ConfigDict(extra="forbid")

    hosts: list[str] = Field(default_factory=list, max_length=100)
    methods: list[Method] = Field(default=["GET", "HEAD"], min_length=1)
    secret_headers: list[SecretHeader] = Field(default_factory=list, max_length=100)

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            name, _, port = host.rpartition(":") if re.search(r":\d+$", host) else (host, "", "443")
            if not _HOST.fullmatch(name) or not 0 < int(port) < 65536:
                raise ValueError(
                    f"{host!r} is no host; write api.example.com or with a port behind"
                )
        return hosts


class HttpRequest:
    name = "http_request"
    description = "Calls web services that the tenant has named."

    def tools(self, owner: ToolOwner) -> Iterable[Tool]:
        yield _tool(owner, owner.settings_of(self.name, HttpSettings))


def _tool(owner: ToolOwner, settings: HttpSettings) -> Tool:
    @tool(
        needs_grant=True,
        settings=HttpSettings,
        timeout_seconds=45,
        max_result_bytes=MAX_RESULT_BYTES,
        is_repeatable=READING.issuperset(settings.methods),
    )
    def http_request(
        url: Annotated[str, Field(description="Its host has to be one that is allowed.")],
        method: Method = "GET",
        headers: dict[str, str] | None = None,
        body: Annotated[JsonValue, Field(description="Text as it is; all else as JSON.")] = None,
        max_characters: Characters = 20_000,
    ) -> dict[str, Any]:
        """Call a web service, and get its status and its answer; redirects are not followed."""
        with failing_as("http_request"):
            if method not in settings.methods:
                raise WebRefusedError(f"{method} is not allowed; {', '.join(settings.methods)} are")
            address = _allowed(url, settings.hosts)
            meant = _secret_headers(settings, address)
            given = _checked(headers or {}, {each.header for each in meant})
            opened = {each.credential: owner.secret(each.credential) for each in meant}
            secrets = {each.header: each.prefix + opened[each.credential] for each in meant}
            content, kind = _content(body)
            asked = WebRequest(
                method=method,
                url=str(address),
                headers={**kind, **given, **secrets},
                content=content,
                ports={_port(address)},
            )
            answer = fetch(asked, max_redirects=0)
        return _shown(answer, max_characters, without(opened.values()))

    return http_request


def _allowed(url: str, hosts: Iterable[str]) -> httpx2.URL:
    """The address, if its host and port are among those that were named."""
    named = {host if re.search(r":\d+$", host) else f"{host}:443" for host in hosts}
    ports = {int(host.rpartition(":")[2]) for host in named}
    address = web_address(url, ports=ports)
    if _place(address) not in named:
        known = ", ".join(sorted(hosts)) or "none"
        raise WebRefusedError(f"the host {_place(address)} is not allowed; allowed: {known}")
    return address


def _place(address: httpx2.URL) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.raw_host.decode("ascii")
    return f"{host}:{_port(address)}"


def _port(address: httpx2.URL) -> int:
    return address.port or {"http": 80, "https": 443}[address.scheme]


def _secret_headers(settings: HttpSettings, address: httpx2.URL) -> list[SecretHeader]:
    """Those that this host gets."""
    place = _place(address)
    meant = [each for each in settings.secret_headers if place in (each.host, f"{each.host}:443")]
    if meant and address.scheme != "https" and not is_opened(address.host, _port(address)):
        raise WebRefusedError("a secret is sent by https alone")
    return meant


def _checked(headers: Mapping[str, str], secret: Iterable[str]) -> dict[str, str]:
    taken = _NOT_TO_BE_SET | {name.lower() for name in secret}
    for name, value in headers.items():
        lower = name.lower()
        if lower in taken or lower.startswith(("proxy-", "x-forwarded-", "sec-")):
            raise WebRefusedError(f"the header {name[:100]!r} may not be set")
        if not _HEADER.fullmatch(name) or not value.isprintable() or not value.isascii():
            raise WebRefusedError("a header holds characters that no header has")
    return dict(headers)


def _content(body: JsonValue) -> tuple[bytes, dict[str, str]]:
    if body is None:
        return b"", {}
    is_text = isinstance(body, str)
    content = values.as_text(body).encode()
    if len(content) > MAX_REQUEST_BYTES:
        raise WebRefusedError(f"the body has more than {MAX_REQUEST_BYTES:,} bytes")
    kind = "text/plain; charset=utf-8" if is_text else "application/json"
    return content, {"Content-Type": kind}


def _shown(answer: WebAnswer, most: int, blotted: Blot) -> dict[str, Any]:
    """Without secrets: some services send back what they were sent."""
    whole = answer.text
    text = blotted(whole[:_MOST_LOOKED_AT])
    is_cut = len(text) > most or len(whole) > _MOST_LOOKED_AT
    shown: dict[str, Any] = {
        "status": answer.status,
        "content_type": blotted(answer.content_type),
        "truncated": is_cut,
        "body": text[:most],
    }
    if location := answer.headers.get("location"):
        shown["location"] = blotted(location)[:2_000]
    if not is_cut and answer.content_type.endswith("json"):
        with suppress(ValueError, RecursionError):
            shown["body"] = _parsed(whole, blotted)
    return shown


def _parsed(text: str, blotted: Blot) -> JsonValue:
    """Raises ValueError for what is no JSON, or none without its secrets."""
    body = values.rewritten(json.loads(text), blotted)
    plain = values.dump(body)
    if blotted(plain) != plain:
        raise ValueError("a number is a secret")
    return body
