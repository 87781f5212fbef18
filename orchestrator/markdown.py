"""Text of a model as HTML. Nothing in it can run, style the page or load from elsewhere."""

import nh3
from markdown_it import MarkdownIt

_TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "del"),
    *("code", "pre", "blockquote", "ul", "ol", "li", "a"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
# What a model says is somebody else's text: no raw HTML, and no pictures, whose address would
# tell a stranger who reads what.
_parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
MAX_RENDERED = 200_000


def to_html(text: str) -> str:
    return nh3.clean(
        _parser.render(text[:MAX_RENDERED]),
        tags=_TAGS,
        attributes={"a": {"href"}, "ol": {"start"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
