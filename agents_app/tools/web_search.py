"""Searching the web, by whichever engine a tenant has chosen."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field

from agents_app.core.tool_sources import ToolOwner
from agents_app.core.tools import Tool, tool
from agents_app.tools.web_address import WebRefusedError
from agents_app.tools.web_client import WebRequest, fetch
from agents_app.tools.web_failures import failing_as

BRAVE_URL: Final = "https://api.search.brave.com/res/v1/web/search"
SECONDS: Final = 15
_LONGEST: Final = 1_000

Query = Annotated[str, Field(min_length=1, max_length=400, description="What to search for.")]
Count = Annotated[int, Field(ge=1, le=20, description="How many results to give.")]


class SearchSettings(BaseModel):
    """Which engine is asked. `brave` needs the name of a credential for tools with its API key."""

    model_config = ConfigDict(extra="forbid")

    engine: Literal["ddgs", "brave"] = "ddgs"
    credential: str = Field(default="", max_length=100)


@dataclass(frozen=True, slots=True)
class Found:
    title: str
    url: str
    text: str


Engine = Callable[[str, int], list[Found]]


class WebSearch:
    name = "web_search"
    description = "Searches the web."

    def tools(self, owner: ToolOwner) -> Iterable[Tool]:
        settings = owner.settings_of(self.name, SearchSettings)

        def brave(query: str, count: int) -> list[Found]:
            return search_brave(query, count, key=owner.secret(settings.credential))

        yield web_search.bound(search=brave if settings.engine == "brave" else search_ddgs)


@tool(needs_grant=True, settings=SearchSettings, timeout_seconds=30, bound=("search",))
def web_search(query: Query, count: Count = 8, *, search: Engine) -> list[dict[str, str]]:
    """Search the web: titles, addresses and short texts of what is found. Read pages after."""
    with failing_as("web_search"):
        found = search(query, count)
    return [
        {"title": each.title[:300], "url": each.url, "text": each.text[:_LONGEST]}
        for each in found[:count]
    ]


def search_brave(query: str, count: int, *, key: str) -> list[Found]:
    """By the API of Brave Search. Raises WebRefusedError."""
    asked = WebRequest(
        url=f"{BRAVE_URL}?{urlencode({'q': query, 'count': count, 'text_decorations': 'false'})}",
        headers={"X-Subscription-Token": key, "Accept": "application/json"},
    )
    # It never redirects, and a key is not carried elsewhere.
    answer = fetch(asked, seconds=SECONDS, max_redirects=0)
    if answer.status != 200:
        raise WebRefusedError(f"the search engine answered {answer.status}")
    try:
        results = json.loads(answer.body).get("web", {}).get("results", [])
        return [_found(each, text="description", url="url") for each in results]
    except (ValueError, AttributeError, TypeError):
        raise WebRefusedError("the search engine's answer is not what was agreed") from None


def search_ddgs(query: str, count: int) -> list[Found]:
    """By what search engines show to everybody, without a key. Raises WebRefusedError.

    The library asks the fixed addresses of its engines by a client of its own, which looks like a
    browser, and takes the proxies that the operator's environment names.
    """
    # Imported here: few workers search.
    from ddgs.ddgs import DDGS
    from ddgs.exceptions import DDGSException

    class Search(DDGS):
        def _get_engines(self, category: str, backend: str) -> list[Any]:
            engines = super()._get_engines(category, backend)
            for engine in engines:
                # By some queries engines lead on to what they find, which may lead anywhere.
                engine.http_client.client.follow_redirects = False
            return engines

    try:
        results = Search(timeout=SECONDS).text(query, max_results=count)
    except DDGSException as error:
        if "No results" in str(error):
            return []
        raise WebRefusedError("the search engines do not answer now; try again later") from error
    return [_found(each, text="body", url="href") for each in results]


def _found(result: dict[str, Any], *, text: str, url: str) -> Found:
    title, address, told = (result.get(name) or "" for name in ("title", url, text))
    return Found(str(title), str(address), str(told))
