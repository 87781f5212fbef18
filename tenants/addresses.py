"""Where the addresses that tenants name may lead: nowhere inside the operator's network."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

Network = IPv4Network | IPv6Network
# Where IPv6 is routed on the internet; what carries an IPv4 address inside lies outside or below.
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_TUNNELS = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))


def may_be_reached(address: str, *, allowed: Sequence[Network] = ()) -> bool:
    """Whether a connection to this IP address leaves the operator's network.

    `allowed` are the private networks that tenants may reach all the same.
    """
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    ip = mapped or ip
    return any(ip in network for network in allowed) or _is_public(ip)


def address_fault(url: str, *, allowed: Sequence[Network] = ()) -> str | None:
    """Why a tenant may not name this address, or None. Names are not looked up.

    Whoever connects asks `may_be_reached` of the very address that a name resolves to.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "is not a URL"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "holds characters that no address has"
    schemes = ("https", "http") if allowed else ("https",)
    if parts.scheme not in schemes or not host or port == 0:
        return f"has to begin with {' or '.join(f'{scheme}://' for scheme in schemes)} and a host"
    if parts.username is not None or parts.password is not None:
        return "may not hold a user name or password"
    if parts.query or parts.fragment:
        return "may not hold a query or a fragment"
    is_local_name = host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
    if not allowed and is_local_name:
        return "leads into a private network"
    if _is_ip(host) and not may_be_reached(host, allowed=allowed):
        return "leads into a private network"
    return None


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv6Address) and ip not in _GLOBAL_IPV6:
        return False
    if any(ip in tunnel for tunnel in _TUNNELS):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _is_ip(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
