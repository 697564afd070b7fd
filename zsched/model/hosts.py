"""Host names and addresses as text. Pure: nothing is resolved."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address


@lru_cache(maxsize=256)
def is_loopback_address(text: str) -> bool:
    """Whether a text is an IP address of the loopback interface, also as IPv6 maps it (::ffff:127.0.0.1)."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def is_loopback(host: str) -> bool:
    """Whether a host of a URL or an endpoint is this one by its loopback interface: `localhost`, or such an address."""
    return host.lower() == "localhost" or is_loopback_address(host.strip("[]"))
