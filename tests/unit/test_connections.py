"""The bounds of connections to the workers' port, without any socket."""

from __future__ import annotations

from random import Random

from zsched.model.limits import (
    CONNECTIONS_PER_KEY_MAX,
    UNHEARD_CONNECTIONS_MAX,
    UNREAD_BYTES_MAX,
)
from zsched.scheduler.connection_limits import Connection, Identity, Limits, Traffic
from zsched.security.peer import home

MANY = 100_000


def identity(address: str = "192.0.2.1", number: int = 0) -> Identity:
    return Identity(number.to_bytes(8), address, home(address))


def accept(limits: Limits, descriptors: range, address: str = "192.0.2.1") -> list[int]:
    """Accept connections from an address; returns the descriptors that have to go."""
    return [
        excess.descriptor
        for descriptor in descriptors
        for excess in limits.on_accepted(descriptor, identity(address, descriptor))
    ]


def descriptors(excess: list[Connection]) -> list[int]:
    return [connection.descriptor for connection in excess]


def test_unheard_connections_are_bounded() -> None:
    limits = Limits(MANY, Random(1))
    assert accept(limits, range(UNHEARD_CONNECTIONS_MAX)) == []
    cut = accept(limits, range(1_000, 1_000 + 2 * UNHEARD_CONNECTIONS_MAX))
    assert len(set(cut)) == 2 * UNHEARD_CONNECTIONS_MAX
    assert limits.unheard == len(limits) == UNHEARD_CONNECTIONS_MAX
    # Neither are all that were there before cut for newcomers, nor all newcomers.
    assert 0 < sum(one >= 1_000 for one in cut) < len(cut)


def test_address_with_most_unheard_connections_makes_room_for_others() -> None:
    limits = Limits(MANY, Random(1))
    flood = range(UNHEARD_CONNECTIONS_MAX)
    accept(limits, flood, "192.0.2.1")
    others = range(1_000, 1_000 + UNHEARD_CONNECTIONS_MAX // 2)
    assert set(accept(limits, others, "198.51.100.7")) < set(flood)
    # An address that goes on with most of them ends its own alone.
    again = range(2_000, 2_000 + UNHEARD_CONNECTIONS_MAX)
    assert set(accept(limits, again, "192.0.2.1")) < {*flood, *again}


def test_network_of_an_ipv6_caller_counts_as_one() -> None:
    limits = Limits(MANY, Random(1))
    accept(limits, range(10), "2001:db8::9")
    for number in range(UNHEARD_CONNECTIONS_MAX - 10):
        accept(limits, range(100 + number, 101 + number), f"2001:db8:1:1::{number:x}")
    (cut,) = accept(limits, range(5_000, 5_001), "2001:db8::9")
    assert 100 <= cut < 5_000


def test_heard_connections_are_not_cut_for_unheard_ones() -> None:
    limits = Limits(MANY, Random(1))
    accept(limits, range(1))
    assert limits.on_heard(0, "key") == []
    assert 0 not in accept(limits, range(1, 1_000))
    assert limits.is_heard(0)


def test_connections_of_one_key_are_bounded_and_the_newest_stay() -> None:
    limits = Limits(MANY, Random(1))
    accept(limits, range(10))
    assert [descriptors(limits.on_heard(one, "key")) for one in range(5)] == [[], [], [], [0], [1]]
    assert CONNECTIONS_PER_KEY_MAX == 3
    assert descriptors(limits.on_heard(5, "another")) == []
    # One that ends by itself leaves room.
    limits.on_closed(2)
    assert limits.on_heard(6, "key") == []


def test_connections_without_keys_have_no_bound_by_key() -> None:
    limits = Limits(MANY, Random(1))
    accept(limits, range(20))
    assert [limits.on_heard(one, "") for one in range(20)] == [[]] * 20
    assert limits.unheard == 0


def test_all_connections_together_are_bounded_and_those_in_use_stay() -> None:
    limits = Limits(10, Random(1))
    accept(limits, range(9))
    for one in range(9):
        limits.on_heard(one, f"key {one}")
    assert accept(limits, range(9, 12)) == [9, 10]
    limits.on_heard(11, "key 11")
    # All have been heard: the newcomer goes.
    assert accept(limits, range(12, 13)) == [12]
    assert len(limits) == 10


def test_descriptor_that_is_used_again_is_another_connection() -> None:
    limits = Limits(MANY, Random(1))
    accept(limits, range(1))
    limits.on_heard(0, "key")
    # Its end was not seen.
    accept(limits, range(1))
    assert not limits.is_heard(0)
    assert (len(limits), limits.unheard) == (1, 1)


def test_events_of_unknown_connections_change_nothing() -> None:
    limits = Limits(MANY, Random(1))
    limits.on_closed(5)
    assert limits.on_heard(5, "key") == []
    accept(limits, range(5, 6))
    limits.on_heard(5, "key")
    assert limits.on_heard(5, "another") == []
    limits.on_closed(5)
    limits.on_closed(5)
    assert (len(limits), limits.unheard) == (0, 0)


def test_connection_that_brings_much_and_no_frame_is_cut() -> None:
    limits = Limits(MANY, Random(1))
    accept(limits, range(2))
    silent, speaking = limits.all()
    for look in range(1, 5):
        # A frame was read since the last look, so bytes count from here on.
        speaking.frames += 1
        assert not limits.on_traffic(speaking, Traffic(look * UNREAD_BYTES_MAX, 0))
    assert not limits.on_traffic(speaking, Traffic(5 * UNREAD_BYTES_MAX, 0))
    assert limits.on_traffic(speaking, Traffic(5 * UNREAD_BYTES_MAX + 1, 0))
    assert not limits.on_traffic(silent, Traffic(UNREAD_BYTES_MAX, 0))
    assert limits.on_traffic(silent, Traffic(UNREAD_BYTES_MAX + 1, 0))
    assert len(limits) == 0


def test_connection_is_found_by_its_peer_until_it_is_gone() -> None:
    limits = Limits(MANY, Random(1))
    accept(limits, range(2))
    limits.on_heard(0, "key", b"peer")
    assert limits.of_peer(b"peer") is limits.get(0)
    assert limits.of_peer(b"another") is None
    limits.on_closed(0)
    assert limits.of_peer(b"peer") is None


def test_full_means_that_every_place_is_taken_by_a_heard_connection() -> None:
    limits = Limits(3, Random(1))
    accept(limits, range(3))
    full = [limits.full]
    for descriptor in range(3):
        limits.on_heard(descriptor, f"key{descriptor}")
        full.append(limits.full)
    limits.on_closed(1)
    assert [*full, limits.full] == [False, False, False, True, False]
