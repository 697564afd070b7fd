"""The address of a caller behind trusted proxies, from `X-Forwarded-For` or `Forwarded` (RFC 7239).

It is for events, the log and the bound of bad tokens, and never for trust: the gate takes no forwarded call for a local
one. Each proxy appends the address that called it, so a chain is read from its right end, where the trusted proxies
wrote; whatever stands to the left of the first untrusted address was written by that caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

from zsched.model.limits import FORWARDED_CHARS_MAX

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# A node of a chain: an address with a port or without; of IPv6 in brackets where a port may follow.
_NODE: Final = re.compile(r"([0-9.]+|(?=.*:.*:)[0-9A-Fa-f:.]+)|(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?")
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 (the grammar's word for a word)
_PAIR: Final = rf'[ \t]*({_TOKEN})=({_TOKEN}|"(?:[^"\\]|\\.)*")[ \t]*'
_ELEMENT: Final = re.compile(rf"{_PAIR}(?:;{_PAIR})*")
_PAIRS: Final = re.compile(_PAIR)


class Proxies:
    """The trusted proxies, whose headers give a caller's address. There are none by default."""

    def __init__(self, trusted: Iterable[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def caller(self, peer: str, env: Mapping[str, Any]) -> str:
        """The address of a call that came from the TCP address `peer`, with the headers in a WSGI environment.

        It is `peer` when that is no trusted proxy, when the headers name no address, and when the two of them disagree:
        a proxy writes one and may pass on what a caller wrote into the other.
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
        """The first address from the right that is no trusted proxy; or the last one that could be read."""
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
    """The parts between commas, of a longer text only those that lie whole in its last FORWARDED_CHARS_MAX characters.

    Quotes are not looked at: no quoted address holds a comma, and a caller's unclosed quote must not swallow what a
    proxy appends.
    """
    elements = text[-FORWARDED_CHARS_MAX:].split(",")
    return elements if len(text) <= FORWARDED_CHARS_MAX else elements[1:]


def _for(element: str) -> str:
    """The `for` of an element of Forwarded; empty when it has none, several, or is not of RFC 7239's form."""
    if _ELEMENT.fullmatch(element) is None:
        return ""
    values = [value for name, value in _PAIRS.findall(element) if name.lower() == "for"]
    return values[0].strip('"') if len(values) == 1 else ""


def _address(node: str) -> Address | None:
    found = _NODE.fullmatch(node.strip(" \t"))
    if found is None:
        return None
    try:
        address = ip_address(next(group for group in found.groups() if group))
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
