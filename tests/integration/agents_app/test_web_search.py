"""One search tool over engines of different kinds."""

import json
from typing import Any

import ddgs.ddgs
import pytest
from ddgs.engines.duckduckgo import Duckduckgo

from agents_app.core.errors import ToolFailedError
from agents_app.tools import web_search
from tests.integration.agents_app.web_servers import (
    allow,
    answering,
    keep_secret,
    port_of,
    sent,
    use,
)
from tests.model_servers import RawServer, raw_server
from tests.world import World

KEY = "BSA-acme-0123456789"
RESULTS = {
    "web": {
        "results": [
            {"title": "Tea", "url": "https://tea.example/", "description": "All of it."},
            {"title": "Cups", "url": "https://cups.example/", "description": "x" * 5_000},
        ]
    }
}
DUCK = b"""<html><body><div class="result"><div class="links_main body">
<h2><a href="https://tea.example/">Tea &amp; more</a></h2><a href="https://tea.example/">Leaves.</a>
</div></div></body></html>"""


@pytest.fixture
def brave(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def brave(server: RawServer) -> None:
        settings.MUSTER_TOOL_PRIVATE_HOSTS = frozenset({("127.0.0.1", port_of(server))})
        monkeypatch.setattr(web_search, "BRAVE_URL", f"{server.url}/search")

    return brave


@pytest.fixture
def searching(acme: World) -> World:
    keep_secret(acme, "search", KEY)
    allow(acme, "web_search", engine="brave", credential="search")
    return acme


def test_keyed_engine_is_asked_with_the_tenants_own_key(searching: World, brave: Any) -> None:
    with raw_server(answering(sent(json.dumps(RESULTS).encode()))) as server:
        brave(server)
        found = use(searching, "web_search", query="tea & cups", count=2)

    assert found[0] == {"title": "Tea", "url": "https://tea.example/", "text": "All of it."}
    assert [len(each["text"]) for each in found] == [10, 1_000]
    (request,) = server.requests
    assert request.startswith(b"GET /search?q=tea+%26+cups&count=2&")
    assert f"X-Subscription-Token: {KEY}".encode() in request


@pytest.mark.parametrize(
    "answer",
    [
        sent(b"", status="429 Too Many Requests"),
        sent(b"", status="302 Found", headers=("Location: https://elsewhere.example/",)),
        *(sent(body) for body in (b"nonsense", b"[]", b'{"web": 7}', b'{"web": {"results": [7]}}')),
    ],
)
def test_engine_that_does_not_answer_is_told_without_its_key(
    searching: World, brave: Any, answer: bytes
) -> None:
    with raw_server(answering(answer)) as server:
        brave(server)
        with pytest.raises(ToolFailedError) as caught:
            use(searching, "web_search", query="tea")

    assert "search engine" in caught.value.detail
    assert KEY not in caught.value.detail


@pytest.mark.parametrize("credential", ["", "main", "of globex"])
def test_key_that_is_not_there_is_told(acme: World, globex: World, credential: str) -> None:
    keep_secret(globex, "of globex", KEY)
    allow(acme, "web_search", engine="brave", credential=credential)

    with pytest.raises(ToolFailedError, match="no enabled credential for tools"):
        use(acme, "web_search", query="tea")


def test_engine_without_a_key_is_read_as_people_see_it(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(acme, "web_search")
    html = ("Content-Type: text/html; charset=utf-8",)
    with raw_server(answering(sent(DUCK, headers=html))) as server:
        monkeypatch.setattr(Duckduckgo, "search_url", server.url)
        monkeypatch.setitem(ddgs.ddgs.ENGINES, "text", {"duckduckgo": Duckduckgo})
        found = use(acme, "web_search", query="tea")

    assert found == [{"title": "Tea & more", "url": "https://tea.example/", "text": "Leaves."}]


def test_engine_that_leads_elsewhere_is_not_followed(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(acme, "web_search")
    with raw_server(answering(sent(DUCK))) as inner:
        moved = sent(b"", status="302 Found", headers=(f"Location: {inner.url}/",))
        with raw_server(answering(moved)) as server:
            monkeypatch.setattr(Duckduckgo, "search_url", server.url)
            monkeypatch.setitem(ddgs.ddgs.ENGINES, "text", {"duckduckgo": Duckduckgo})
            found = use(acme, "web_search", query="!ducky tea")
            assert server.requests

        assert (found, inner.requests) == ([], [])


def test_engines_that_are_away_are_told(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(acme, "web_search")
    monkeypatch.setattr(Duckduckgo, "search_url", "http://127.0.0.1:1/")
    monkeypatch.setitem(ddgs.ddgs.ENGINES, "text", {"duckduckgo": Duckduckgo})

    with pytest.raises(ToolFailedError, match="try again later"):
        use(acme, "web_search", query="tea")
