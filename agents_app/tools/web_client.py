"""Fetches what tools ask for: from public addresses alone, within bounds of time and size.

No cookies are kept, no proxy or password of the environment is used, and each redirect is
looked at like the first address.
"""

import codecs
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import httpx2

from agents_app.core.cancellation import current_cancellation
from agents_app.providers.transport import (
    DeadlineTransport,
    cut_short_when,
    timeouts,
    total_deadline,
)
from agents_app.tools.web_address import WEB_PORTS, WebRefusedError, may_connect, web_address

MAX_BYTES: Final = 5 * 1024 * 1024
MAX_REDIRECTS: Final = 5
SECONDS: Final = 30.0
AGENT: Final = "Mozilla/5.0 (compatible; Muster)"
# Python knows others that no page is written in, and some take for ever.
_CHARSETS: Final = re.compile(
    r"ascii|utf-(8|16)([-_]\w+)*|(iso8859|cp|koi8|mac|kz|ptcp)[-_]?\w+|tis-620"
    r"|gb\w+|hz|big5\w*|(euc|iso2022)_\w+|shift_jis\w*|johab"
)
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_PACKED: Final = {
    "gzip": zlib.MAX_WBITS | 16,
    "x-gzip": zlib.MAX_WBITS | 16,
    "deflate": zlib.MAX_WBITS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebAnswer:
    """What came from an address; `url` is the last one, behind all redirects."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        """The encoding that its headers name; none where they do not, or none that pages have."""
        named = self.headers.get("content-type", "").lower().partition("charset=")[2]
        return known_charset(named.partition(";")[0].strip(" \"'"))

    @property
    def text(self) -> str:
        return self.body.decode(self.charset or "utf-8", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebRequest:
    method: str = "GET"
    url: str
    headers: Mapping[str, str] | None = None
    content: bytes = b""
    ports: Collection[int] = WEB_PORTS


def known_charset(named: str) -> str:
    """The encoding of this name, if it is one of texts; empty if not."""
    try:
        found = codecs.lookup(named).name
    except (LookupError, ValueError):  # the latter for NUL
        return ""
    return found if _CHARSETS.fullmatch(found) else ""


def fetch(
    request: WebRequest,
    *,
    seconds: float = SECONDS,
    max_bytes: int = MAX_BYTES,
    max_redirects: int = MAX_REDIRECTS,
) -> WebAnswer:
    """Ask, and go where it is redirected to. Raises WebRefusedError, in words for a model."""
    cancellation = current_cancellation()
    with total_deadline(seconds), cut_short_when(lambda: cancellation.is_set):
        url = web_address(request.url, ports=request.ports)
        for _ in range(max_redirects + 1):
            answer, moved_to = _asked(request, url, seconds=seconds, max_bytes=max_bytes)
            if moved_to is None or max_redirects == 0:
                return answer
            url = web_address(moved_to, ports=request.ports)
    raise WebRefusedError(f"it was redirected more than {max_redirects} times")


def _asked(
    request: WebRequest, url: httpx2.URL, *, seconds: float, max_bytes: int
) -> tuple[WebAnswer, str | None]:
    """The answer, and the address that it sends on to, if it does."""
    asked = httpx2.Request(
        request.method,
        url,
        headers={
            "User-Agent": AGENT,
            "Accept-Encoding": "gzip, deflate",
            **(request.headers or {}),
        },
        content=request.content or None,
        extensions={"timeout": timeouts(seconds).as_dict()},
    )
    try:
        answer = _transport().handle_request(asked)
        try:
            body = b"" if answer.status_code in _MOVED else _body(answer, max_bytes)
        finally:
            answer.close()
    except httpx2.HTTPError as error:
        raise WebRefusedError(_told(error, url)) from error
    found = WebAnswer(
        url=str(url),
        status=answer.status_code,
        headers={name.lower(): value for name, value in answer.headers.items()},
        body=body,
    )
    return found, _moved_to(found, url)


def _moved_to(answer: WebAnswer, url: httpx2.URL) -> str | None:
    location = answer.headers.get("location")
    if answer.status not in _MOVED or location is None:
        return None
    try:
        return str(url.join(location))
    except (httpx2.InvalidURL, ValueError):
        raise WebRefusedError("it was redirected to what is no address") from None


@cache
def _transport() -> DeadlineTransport:
    # What arrives is bounded as it is unpacked, so what is sent needs no bound of its own.
    return DeadlineTransport(may_connect, is_unpacked_later=True)


def _body(answer: httpx2.Response, most: int) -> bytes:
    encoding = answer.headers.get("content-encoding", "identity").strip().lower()
    parts: Iterable[bytes] = answer.stream  # type: ignore[assignment]  # a sync one
    if encoding in _PACKED:
        parts = _unpacked(parts, _PACKED[encoding], most)
    elif encoding != "identity":
        raise WebRefusedError(f"the answer is packed as {encoding[:20]!r}, which was not asked for")
    found, size = [], 0
    for part in parts:
        size += len(part)
        if size > most:
            raise WebRefusedError(f"the answer has more than {most:,} bytes")
        found.append(part)
    return b"".join(found)


def _unpacked(parts: Iterable[bytes], bits: int, most: int) -> Iterator[bytes]:
    """Of each part no more than is one too many, whatever it would unpack to."""
    unpacker = zlib.decompressobj(bits)
    try:
        for part in parts:
            yield unpacker.decompress(part, most + 1)
        yield unpacker.flush()
    except zlib.error:
        raise WebRefusedError("the answer is packed in a way that cannot be read") from None


def _told(error: httpx2.HTTPError, url: httpx2.URL) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return f"{url.host} did not answer in time"
    return f"{url.host} could not be read: {error}"[:300]
