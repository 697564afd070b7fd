"""The address of a caller behind trusted proxies, and what forged, broken and long headers make of it."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsched.api.forwarded import Proxies
from zsched.model.limits import FORWARDED_CHARS_MAX

PROXIES = Proxies([ip_network("127.0.0.1"), ip_network("10.1.0.0/16"), ip_network("2001:db8:1::/48")])
PEER = "127.0.0.1"


def by_chain(text: str, peer: str = PEER) -> str:
    return PROXIES.caller(peer, {"HTTP_X_FORWARDED_FOR": text})


def by_forwarded(text: str, peer: str = PEER) -> str:
    return PROXIES.caller(peer, {"HTTP_FORWARDED": text})


@pytest.mark.parametrize(
    ("text", "caller"),
    [
        ("203.0.113.9", "203.0.113.9"),
        # The caller wrote what stands to the left of the address that the proxy saw.
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1, 203.0.113.9", "203.0.113.9"),
        # Trusted proxies in a row, the nearest one last.
        ("198.51.100.1, 203.0.113.9, 10.1.2.3, 10.1.9.9", "203.0.113.9"),
        ("203.0.113.9,10.1.2.3", "203.0.113.9"),
        # A trusted proxy that calls for itself.
        ("10.1.2.3", "10.1.2.3"),
        ("203.0.113.9:51234", "203.0.113.9"),
        ("2001:db8::9", "2001:db8::9"),
        ("[2001:DB8:0::9]:51234", "2001:db8::9"),
        ("[2001:db8::9], 2001:db8:1::5", "2001:db8::9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, ::ffff:10.1.2.3", "203.0.113.9"),
        # What can't be read was written by nobody trusted, or says nothing.
        ("203.0.113.9, unknown", PEER),
        ("203.0.113.9, unknown, 10.1.2.3", "10.1.2.3"),
        ("", PEER),
        (",", PEER),
        ("203.0.113.9,", PEER),
        ("203.0.113.9 10.1.2.3", PEER),
        ("localhost", PEER),
        ("0x7f000001", PEER),
        ("2130706433", PEER),
        ("203.0.113.9.", PEER),
        ("203.0.113.009", PEER),
        ("203.0.113.9:port", PEER),
        ("203.0.113.9:999999", PEER),
        ("203.0.113.9/24", PEER),
        ("[203.0.113.9]", "203.0.113.9"),
        ("2001:db8::9:51234x", PEER),
        ("fe80::1%eth0", PEER),
        ("fe80::1%\x1b[31m", PEER),
        ("203.0.113.9\x0b", PEER),
        ("٢٠٣.0.113.9", PEER),
        ("<script>", PEER),
    ],
)
def test_x_forwarded_for_is_read_from_its_right_end(text: str, caller: str) -> None:
    assert by_chain(text) == caller


@pytest.mark.parametrize(
    ("text", "caller"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ("For=203.0.113.9;proto=https;by=10.1.2.3", "203.0.113.9"),
        ('by=10.1.2.3; for="203.0.113.9:51234"', "203.0.113.9"),
        ('for="[2001:db8::9]:51234"', "2001:db8::9"),
        ("for=198.51.100.1, for=203.0.113.9, for=10.1.2.3", "203.0.113.9"),
        ("for=203.0.113.9, for=unknown", PEER),
        ("for=203.0.113.9, for=_hidden", PEER),
        ("proto=https", PEER),
        ("for=203.0.113.9;for=198.51.100.1", PEER),
        ("for=", PEER),
        ("for", PEER),
        ("203.0.113.9", PEER),
        ('for="203.0.113.9', PEER),
        # A caller's open quote does not swallow what the proxy appends.
        ('for="198.51.100.1, for=203.0.113.9', "203.0.113.9"),
        # A host name that a proxy quotes can't add an element of its own.
        ('for=203.0.113.9;host="x,for=198.51.100.1"', PEER),
        ('for=203.0.113.9;host="x,for=198.51.100.1;y=\\""', PEER),
    ],
)
def test_forwarded_is_read_from_its_right_end(text: str, caller: str) -> None:
    assert by_forwarded(text) == caller


@pytest.mark.parametrize("peer", ["192.0.2.7", "127.0.0.2", "2001:db8::7", "10.2.0.1", "socket", ""])
def test_header_of_a_peer_that_is_not_a_trusted_proxy_is_ignored(peer: str) -> None:
    assert by_chain("203.0.113.9", peer) == peer
    assert by_forwarded("for=203.0.113.9", peer) == peer


def test_no_proxy_is_trusted_by_default() -> None:
    for peer in ("127.0.0.1", "::1", "192.0.2.7"):
        assert Proxies().caller(peer, {"HTTP_X_FORWARDED_FOR": "203.0.113.9"}) == peer


def test_trusted_peer_over_a_dual_stack_socket_is_the_same_one() -> None:
    assert by_chain("203.0.113.9", "::ffff:127.0.0.1") == "203.0.113.9"


def test_headers_that_disagree_are_ignored() -> None:
    def caller(chain: str, forwarded: str) -> str:
        return PROXIES.caller(PEER, {"HTTP_X_FORWARDED_FOR": chain, "HTTP_FORWARDED": forwarded})

    assert caller("203.0.113.9", "for=203.0.113.9;proto=https") == "203.0.113.9"
    assert caller("203.0.113.9", "for=198.51.100.1") == PEER
    assert caller("198.51.100.1", "for=203.0.113.9") == PEER
    assert PROXIES.caller(PEER, {}) == PEER


def test_only_the_right_end_of_a_long_header_is_read() -> None:
    forged = ", ".join(["198.51.100.1"] * 10_000)
    assert by_chain(f"{forged}, 203.0.113.9") == "203.0.113.9"
    assert by_forwarded(f"{forged}, for=203.0.113.9") == "203.0.113.9"
    # The cut goes through the first address, and what is left of it would be an address too.
    cut = "91.1.1.1," + "10.1.2.3," * 112 + "10.1.2.3"
    assert len(cut) == FORWARDED_CHARS_MAX + 1
    assert by_chain(cut) == "10.1.2.3"
    assert by_chain("203.0.113.9" + " " * FORWARDED_CHARS_MAX) == PEER
    assert by_chain(", ".join(["10.1.2.3"] * 10_000)) == "10.1.2.3"


@given(st.text(alphabet=st.sampled_from('for=;,"\\[]:.%0123456789abcdef \t_'), max_size=2 * FORWARDED_CHARS_MAX))
def test_garbage_gives_an_address_and_costs_little(text: str) -> None:
    begun_s = time.perf_counter()
    for found in (by_chain(text), by_forwarded(text)):
        assert len(found) <= 45
        assert found.isascii()
        assert not set(found) - set("0123456789abcdef.:")
    assert time.perf_counter() - begun_s < 0.1


@given(st.text(max_size=200), st.ip_addresses(v=4).filter(lambda seen: seen.is_global))
def test_what_a_caller_writes_does_not_change_what_the_proxy_saw(written: str, seen: IPv4Address) -> None:
    assert by_chain(f"{written}, {seen}") == str(seen)
    assert by_forwarded(f"{written}, for={seen}") == str(seen)
