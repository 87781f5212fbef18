"""What people read on a page, without what stands around it."""

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from urllib.parse import urljoin

from agents_app.tools.web_address import WebRefusedError
from agents_app.tools.web_client import WebAnswer, known_charset

# What it takes to read a page grows with it; the longest articles have a tenth of this.
MAX_HTML_BYTES: Final = 2 * 1024 * 1024
_HTML: Final = frozenset({"text/html", "application/xhtml+xml", ""})
_PLAIN: Final = frozenset(
    {"application/json", "application/xml", "application/yaml", "application/x-yaml"}
)
# How far into a page browsers look for its encoding, and somewhat more.
_HEAD_BYTES: Final = 4_096
_SAMPLE_BYTES: Final = 9_000
_META: Final = re.compile(
    rb"<meta\b[^<>]{0,500}?\bcharset\s{0,9}=\s{0,9}[\"']?\s{0,9}([\w.:-]{1,40})", re.IGNORECASE
)
_HIDDEN: Final = ("script", "style", "noscript", "template", "svg", "iframe", "head")
_LONGEST_LINK: Final = 2_000


@dataclass(frozen=True, slots=True)
class Link:
    text: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Readable:
    title: str = ""
    text: str
    links: Sequence[Link] = ()


def main_text(answer: WebAnswer) -> Readable:
    """The article of a page in Markdown; all of its text where it has none. WebRefusedError."""
    if not _is_html(answer):
        return Readable(text=answer.text)
    source = _source(answer)
    tree = _tree(source)
    # Imported here: it takes most of a second, which most workers never need.
    import trafilatura

    found = trafilatura.extract(
        source,
        url=answer.url,
        output_format="markdown",
        include_comments=False,
        include_tables=True,
        favor_recall=True,
    )
    return Readable(title=_title(tree), text=found or _all_text(tree))


def whole_page(answer: WebAnswer, *, most_links: int) -> Readable:
    """All text of a page, menus and all, and where it leads. Raises WebRefusedError."""
    if not _is_html(answer):
        return Readable(text=answer.text)
    tree = _tree(_source(answer))
    # The text comes last: for it, what nobody sees is taken out of the tree.
    found = tuple(islice(_links(tree, answer.url), most_links))
    return Readable(title=_title(tree), links=found, text=_all_text(tree))


def _links(tree: Any, base: str) -> Iterator[Link]:
    """Each address once."""
    seen = set[str]()
    for anchor in tree.iter("a"):
        try:
            url = urljoin(base, anchor.get("href") or "").partition("#")[0]
        except ValueError:
            continue
        is_new = url.startswith(("https://", "http://")) and url not in seen
        if is_new and len(url) <= _LONGEST_LINK:
            seen.add(url)
            yield Link(_joined(anchor.itertext())[:200], url)


def _is_html(answer: WebAnswer) -> bool:
    """Whether it is a page; other text is taken as it is, and all else refused."""
    kind = answer.content_type
    if kind in _HTML:
        return True
    if kind.startswith("text/") or kind in _PLAIN or kind.endswith(("+json", "+xml")):
        return False
    raise WebRefusedError(f"it is of the type {kind[:60]!r}, which is not text")


def _source(answer: WebAnswer) -> str:
    """The page as text: in the encoding that its headers name, or it itself, or that it seems."""
    body = answer.body[:MAX_HTML_BYTES]
    charset = answer.charset or _declared(body) or _likely(body)
    return body.removeprefix(codecs.BOM_UTF8).decode(charset, "replace")


def _declared(body: bytes) -> str:
    if body.startswith(codecs.BOM_UTF8):
        return "utf-8"
    found = _META.search(body[:_HEAD_BYTES])
    named = known_charset(found[1].decode("ascii")) if found else ""
    # Whoever could read that, reads no UTF-16.
    return "utf-8" if named.startswith("utf-16") else named


def _likely(body: bytes) -> str:
    # One character may be cut at its end.
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(body)
    except UnicodeDecodeError:
        from trafilatura.utils import detect_encoding

        likely = map(known_charset, detect_encoding(body[:_SAMPLE_BYTES]))
        return next(filter(None, likely), "utf-8")
    return "utf-8"


def _tree(source: str) -> Any:
    from lxml import etree, html

    try:
        # As UTF-8, whatever encoding the page names.
        parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
        plain = source.encode("utf-8", "replace")
        return html.fromstring(plain or b"<html/>", parser=parser)
    except (etree.LxmlError, ValueError):
        raise WebRefusedError("the page cannot be read") from None


def _title(tree: Any) -> str:
    return _joined(tree.itertext("title"))[:300]


def _all_text(tree: Any) -> str:
    lines = (_joined([part]) for part in _visible(tree))
    return "\n".join(line for line in lines if line)


def _visible(tree: Any) -> Iterator[str]:
    for element in list(tree.iter(*_HIDDEN)):
        element.drop_tree() if element.getparent() is not None else element.clear()
    return iter(tree.itertext())


def _joined(parts: Any) -> str:
    return " ".join(" ".join(parts).split())
