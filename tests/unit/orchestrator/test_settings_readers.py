"""Settings refuse bad text at start, and never show a secret with the reason."""

from decimal import Decimal
from ipaddress import ip_network

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from orchestrator.settings.env import factors, fernet_keys, hosts, mcp_commands, nano_usd, networks

KEY = "dGhlIG5ld2VyIGtleSBvZiB0aGUgdGVzdHMsIDMyIGI="


def test_sound_keys_are_taken_in_their_order() -> None:
    keys = [Fernet.generate_key().decode() for _ in range(2)]

    assert fernet_keys("CREDENTIALS_KEYS", keys) == keys


@pytest.mark.parametrize("bad", ["x", "c2hvcnQ=", "k\u00e9y", KEY * 2, f"{KEY} "])
def test_bad_key_is_named_by_its_place_and_not_shown(bad: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="CREDENTIALS_KEYS: key 2 of 2") as caught:
        fernet_keys("CREDENTIALS_KEYS", [Fernet.generate_key().decode(), bad])

    assert f" {bad} " not in str(caught.value)


def test_networks_are_read() -> None:
    read = networks("MUSTER_PRIVATE_NETWORKS", ["10.20.0.0/16", "fd00::/8"])

    assert read == [ip_network("10.20.0.0/16"), ip_network("fd00::/8")]


@pytest.mark.parametrize("bad", ["10.20.0.1/16", "nonsense", "10.0.0.0/99"])
def test_bad_network_is_refused_by_name(bad: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="MUSTER_PRIVATE_NETWORKS"):
        networks("MUSTER_PRIVATE_NETWORKS", [bad])


def test_hosts_are_read_with_their_ports() -> None:
    read = hosts("HOSTS", ["Intranet.example", "10.0.0.7:8080", "[::1]:80"])

    assert read == {
        ("intranet.example", 80),
        ("intranet.example", 443),
        ("10.0.0.7", 8080),
        ("::1", 80),
    }


@pytest.mark.parametrize("bad", ["http://a.example", "a.example/x", "u@a.example", "a:b", ":80"])
def test_what_is_no_host_is_refused(bad: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="HOSTS"):
        hosts("HOSTS", [bad])


@pytest.mark.parametrize(("text", "nano"), [("", None), ("0", 0), ("0.50", 500_000_000)])
def test_amounts_are_read_exactly(text: str, nano: int | None) -> None:
    assert nano_usd("MUSTER_DEFAULT_BUDGET_USD", text) == nano


@pytest.mark.parametrize("bad", ["-1", "1e3", "nan", "fifty", "0.0000000001"])
def test_bad_amount_is_refused_by_name(bad: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="MUSTER_DEFAULT_BUDGET_USD"):
        nano_usd("MUSTER_DEFAULT_BUDGET_USD", bad)


def test_shares_are_read_by_name() -> None:
    assert factors("F", ["openai=0.5", "x=1"]) == {"openai": Decimal("0.5"), "x": Decimal(1)}


@pytest.mark.parametrize("bad", ["openai", "=0.5", "a=2", "a=-1", "a=nan", "a=half"])
def test_bad_share_is_refused_by_name(bad: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="MUSTER_BATCH_FACTORS"):
        factors("MUSTER_BATCH_FACTORS", [bad])


def test_mcp_commands_come_with_their_tenants():
    text = '{"files": {"command": "/opt/mcp", "args": ["/srv"], "tenants": ["acme"]}}'

    assert mcp_commands("MUSTER_MCP_COMMANDS", text) == {
        "files": {"command": "/opt/mcp", "args": ("/srv",), "env": {}, "tenants": ("acme",)}
    }


@pytest.mark.parametrize("bad", ["[]", "{", '{"files": {"command": "/opt/mcp"}}'])
def test_bad_mcp_commands_are_named(bad: str):
    with pytest.raises(ImproperlyConfigured, match="MUSTER_MCP_COMMANDS"):
        mcp_commands("MUSTER_MCP_COMMANDS", bad)
