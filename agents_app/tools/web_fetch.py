from typing import Annotated, Any

from pydantic import Field

from agents_app.core.tools import tool
from agents_app.tools.readable import main_text
from agents_app.tools.web_client import WebAnswer, WebRequest, fetch
from agents_app.tools.web_failures import failing_as

MAX_RESULT_BYTES = 256 * 1024

Url = Annotated[str, Field(description="An address that begins with https:// or http://.")]
Characters = Annotated[int, Field(ge=100, le=50_000, description="How much of the text to give.")]


@tool(needs_grant=True, timeout_seconds=45, max_result_bytes=MAX_RESULT_BYTES)
def web_fetch(url: Url, max_characters: Characters = 20_000) -> dict[str, Any]:
    """Read a page of the web: its title and its main text, without menus and advertisements."""
    with failing_as("web_fetch"):
        answer = fetch(WebRequest(url=url))
        page = main_text(answer)
    return shown(answer, page.title, page.text, max_characters)


def shown(answer: WebAnswer, title: str, text: str, most: int) -> dict[str, Any]:
    return {
        "url": answer.url,
        "status": answer.status,
        "title": title,
        "text": text[:most],
        "truncated": len(text) > most,
    }
