from typing import Annotated, Any

from pydantic import Field

from agents_app.core.tools import tool
from agents_app.tools.readable import whole_page
from agents_app.tools.web_client import WebRequest, fetch
from agents_app.tools.web_failures import failing_as
from agents_app.tools.web_fetch import MAX_RESULT_BYTES, Characters, Url, shown

Count = Annotated[int, Field(ge=0, le=200, description="How many of its links to give.")]


@tool(needs_grant=True, timeout_seconds=45, max_result_bytes=MAX_RESULT_BYTES)
def web_page(
    url: Url, max_characters: Characters = 20_000, max_links: Count = 50
) -> dict[str, Any]:
    """Look at a whole page of the web: its title, all of its text, and where its links lead."""
    with failing_as("web_page"):
        answer = fetch(WebRequest(url=url))
        page = whole_page(answer, most_links=max_links)
    return {
        **shown(answer, page.title, page.text, max_characters),
        "links": [{"text": link.text, "url": link.url} for link in page.links],
    }
