"""What people read on a page, without what stands around it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin

from agents_app.tools.web_address import WebRefusedError
from agents_app.tools.web_client import WebAnswer

# What it takes to read a page grows with it; the longest articles have a tenth of this.
MAX_HTML_BYTES: Final = 2 * 1024 * 1024
_HTML: Final = frozenset({"text/html", "application/xhtml+xml", ""})
_PLAIN: Final = frozenset(
    {"application/json", "application/xml", "application/yaml", "application/x-yaml"}
)
_HIDDEN: Final = ("script", "style", "noscript", "template", "svg", "iframe", "head")
_LONGEST_LINK: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Readable:
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Link:
    text: str
    url: str


def main_text(answer: WebAnswer) -> Readable:
    """The article of a page in Markdown; all of its text where it has none. WebRefusedError."""
    if not _is_html(answer):
        return Readable(title="", text=answer.text)
    tree = _tree(answer)
    # Imported here: it takes most of a second, which most workers never need.
    import trafilatura

    found = trafilatura.extract(
        answer.body[:MAX_HTML_BYTES],
        url=answer.url,
        output_format="markdown",
        include_comments=False,
        include_tables=True,
        favor_recall=True,
    )
    return Readable(title=_title(tree), text=found or _all_text(tree))


def whole_text(answer: WebAnswer) -> Readable:
    """All text of a page, menus and all. Raises WebRefusedError."""
    if not _is_html(answer):
        return Readable(title="", text=answer.text)
    tree = _tree(answer)
    return Readable(title=_title(tree), text=_all_text(tree))


def links(answer: WebAnswer) -> Iterator[Link]:
    """Where a page leads, each address once."""
    if not _is_html(answer):
        return
    seen = set[str]()
    for anchor in _tree(answer).iter("a"):
        try:
            url = urljoin(answer.url, anchor.get("href") or "").partition("#")[0]
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


def _tree(answer: WebAnswer) -> Any:
    from lxml import etree, html

    try:
        # As text: an encoding that a page names wrongly would lose it.
        parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
        return html.fromstring(answer.text[:MAX_HTML_BYTES].encode() or b"<html/>", parser=parser)
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
