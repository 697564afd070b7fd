"""The address of a caller behind trusted proxies, from `X-Forwarded-For` or `Forwarded` (RFC 7239).

It is for events, the log and the rate of bad tokens, and never for trust: the gate never treats a forwarded call as
local. Each proxy appends the address that called it, so a chain is read from its right end, which the trusted proxies
wrote. Everything to the left of the first untrusted address was written by that caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

from zsched.model.limits import FORWARDED_CHARS_MAX

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# A node of a chain: an address with or without a port. An IPv6 address with a port is in brackets.
_NODE: Final = re.compile(r"([0-9.]+|(?=.*:.*:)[0-9A-Fa-f:.]+)|(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?")
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 (the grammar's word for a word)
_PAIR: Final = rf'[ \t]*({_TOKEN})=({_TOKEN}|"(?:[^"\\]|\\.)*")[ \t]*'
_ELEMENT: Final = re.compile(rf"{_PAIR}(?:;{_PAIR})*")
_PAIRS: Final = re.compile(_PAIR)


class Proxies:
    """The trusted proxies: their headers give a caller's address. None by default."""

    def __init__(self, trusted: Iterable[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def caller(self, peer: str, env: Mapping[str, Any]) -> str:
        """The address of a call that came from the TCP address `peer`, with the headers in a WSGI environment.

        It is `peer` if that is not a trusted proxy, if the headers have no address, and if both headers disagree: a
        proxy writes one of them, and may pass on the other from a caller.
        """
        if not self._trusted:
            return peer
        hop = _address(peer)
        if hop is None or not self._trusts(hop):
            return peer
        chains = []
        if (text := env.get("HTTP_X_FORWARDED_FOR")) is not None:
            chains.append(_elements(text))
        if (text := env.get("HTTP_FORWARDED")) is not None:
            chains.append([_for(element) for element in _elements(text)])
        callers = {self._walk(hop, chain) for chain in chains}
        return str(callers.pop()) if len(callers) == 1 else peer

    def _walk(self, hop: Address, chain: list[str]) -> Address:
        """The first address from the right that is not a trusted proxy, or the last one that is valid."""
        for node in reversed(chain):
            address = _address(node)
            if address is None:
                break
            hop = address
            if not self._trusts(hop):
                break
        return hop

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _elements(text: str) -> list[str]:
    """The parts between commas. Of a longer text, only complete parts in its last FORWARDED_CHARS_MAX characters.

    Quotes are ignored: a quoted address has no comma, and a caller's unclosed quote must not hide what a proxy
    appends.
    """
    elements = text[-FORWARDED_CHARS_MAX:].split(",")
    return elements if len(text) <= FORWARDED_CHARS_MAX else elements[1:]


def _for(element: str) -> str:
    """The `for` of an element of Forwarded. Empty if it has none or several, or is invalid by RFC 7239."""
    if _ELEMENT.fullmatch(element) is None:
        return ""
    values = [value for name, value in _PAIRS.findall(element) if name.lower() == "for"]
    return values[0].strip('"') if len(values) == 1 else ""


def _address(node: str) -> Address | None:
    match = _NODE.fullmatch(node.strip(" \t"))
    if match is None:
        return None
    try:
        address = ip_address(next(group for group in match.groups() if group))
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
