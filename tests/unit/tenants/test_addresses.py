from ipaddress import ip_network

import pytest

from tenants.addresses import address_fault, may_be_reached


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34"])
def test_public_addresses_may_be_reached(address: str) -> None:
    assert may_be_reached(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.10", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1"),
        *(
            "169.254.169.254",
            "100.64.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
        ),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1"),
        *("64:ff9b::a00:1", "2002:a00:1::", "2001:0:a00:1::", "::10.0.0.1", "2001:db8::1"),
        *("", "nonsense", "10.1", "0x7f.1"),
    ],
)
def test_everything_else_may_not(address: str) -> None:
    assert not may_be_reached(address)


def test_operator_may_allow_a_network() -> None:
    allowed = [ip_network("10.20.0.0/16")]

    assert may_be_reached("10.20.1.1", allowed=allowed)
    assert may_be_reached("::ffff:10.20.1.1", allowed=allowed)
    assert not may_be_reached("10.21.1.1", allowed=allowed)


@pytest.mark.parametrize(
    "url",
    ["https://models.example.com/v1", "https://models.example.com:8443", "https://93.184.216.34"],
)
def test_plain_https_addresses_are_taken(url: str) -> None:
    assert address_fault(url) is None


@pytest.mark.parametrize(
    "url",
    [
        *("", "models.example.com", "//models.example.com", "https://", "https://:443"),
        *("http://models.example.com", "ftp://models.example.com", "file:///etc/passwd"),
        *("https://u:p@models.example.com", "https://models.example.com?x=1", "https://a.com#f"),
        *(
            "https://localhost",
            "https://db.internal",
            "https://printer.local",
            "https://a.localhost",
        ),
        *("https://127.0.0.1", "https://[::1]:8000", "https://[fe80::1%25eth0]"),
        *("https://models.example.com:99999", "https://models.example.com:0", "https://[x"),
        *("https://a b.com", "https://m\u00f6dels.example.com", "https://a.com/\r\nHost: b"),
    ],
)
def test_other_addresses_are_not(url: str) -> None:
    assert address_fault(url)


def test_plain_http_is_for_allowed_networks() -> None:
    allowed = [ip_network("10.20.0.0/16")]

    assert address_fault("http://10.20.0.7:8000/v1", allowed=allowed) is None
    assert address_fault("http://models.internal/v1", allowed=allowed) is None
    assert address_fault("http://10.21.0.7/v1", allowed=allowed)
