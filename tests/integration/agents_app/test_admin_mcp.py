"""The pages of MCP servers."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from django.conf import settings
from django.urls import reverse

from agents_app.models import McpServer
from agents_app.services.mcp_servers import create_server
from tests.mcp_servers import mcp_server
from tests.world import World

LIST = "admin:agents_app_mcpserver_changelist"
ADD = "admin:agents_app_mcpserver_add"
CHANGE = "admin:agents_app_mcpserver_change"
REFRESH = "admin:agents_app_mcpserver_refresh"


@pytest.fixture(autouse=True)
def _own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MUSTER_PRIVATE_NETWORKS", [ip_network("127.0.0.0/8")])


def test_server_is_added_asked_and_narrowed(acme: World, tmp_path: Path) -> None:
    browser = acme.browser()
    with mcp_server(tmp_path) as server:
        given = {"name": "files", "url": server.url, "timeout_seconds": 9, "enabled": "on"}
        assert browser.post(reverse(ADD), given).status_code == 302
        with acme.scope():
            row = McpServer.objects.get()
        page = browser.post(reverse(REFRESH, args=[row.id]), follow=True).content.decode()

    assert "It offers" in page
    assert "files__add" in page

    change = {"timeout_seconds": 9, "enabled": "on", "allowed_tools": ["add"]}
    assert browser.post(reverse(CHANGE, args=[row.id]), change).status_code == 302
    with acme.scope():
        row.refresh_from_db()
    assert row.allowed_tools == ["add"]
    assert row.listed_at
    assert "files" in browser.get(reverse(LIST)).content.decode()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"url": "https://10.0.0.1"}, "private network"),
        ({}, "Name an address or a command"),
        ({"command": "sh"}, "There is no command"),
    ],
)
def test_what_is_wrong_is_said(acme: World, fields: dict[str, str], said: str) -> None:
    given = {"name": "files", "timeout_seconds": 9, **fields}

    page = acme.browser().post(reverse(ADD), given).content.decode()

    assert said in page.replace("&#x27;", "'")


def test_stranger_finds_nothing(acme: World, globex: World) -> None:
    with acme.scope():
        row = create_server(name="files", url="https://mcp.invalid")
    browser = globex.browser()

    assert browser.get(reverse(CHANGE, args=[row.id])).status_code == 404
    assert browser.post(reverse(REFRESH, args=[row.id])).status_code == 404
