"""The renewal of a worker's session and leases: which frames the scheduler surely received. Pure.

An answer proves that its frame arrived, but not when: the answer may have waited here for long before it was read. So
every period counts from when the answered frame was sent. The times of a lease are in `lease`.
"""

from __future__ import annotations

from collections.abc import Iterable

from zsched.worker import lease


class Renewal:
    """The send times of registers and heartbeats, the answers to them, and the leases of held runs. The agent's."""

    def __init__(self) -> None:
        # The length of the lease of each unfinished run that has one.
        self._lease_ms: dict[int, int] = {}
        # The send time of the last frame that the scheduler surely received; and the one that the guard knows.
        self._heard_ms: int | None = None
        self._reported_ms: int | None = None
        self._acked_ms = 0
        self._lapsed = False
        # The send time of the first register that may be unanswered, and the number of such registers.
        self._registering_since_ms: int | None = None
        self._registers = 0
        self._seq = 0
        # The send time of each unacknowledged heartbeat.
        self._beats: dict[int, int] = {}

    @property
    def acked_ms(self) -> int:
        """When the last answered frame of this session was sent. Its timeout counts from there."""
        return self._acked_ms

    @property
    def unanswered_ms(self) -> int | None:
        """When the first unanswered heartbeat of this session was sent, or None."""
        return next(iter(self._beats.values()), None)

    @property
    def lapsed(self) -> bool:
        """Whether a run came back because its lease was over, and no answer has arrived since."""
        return self._lapsed

    @property
    def pressing(self) -> bool:
        """Whether a heartbeat must follow `registered` at once: for a lease, or to learn which register it answers."""
        return bool(self._lease_ms) or self._registers != 1

    def on_register(self, mono_ms: int) -> None:
        """A register is sent now."""
        if self._registering_since_ms is None:
            self._registering_since_ms = mono_ms
        self._registers += 1

    def on_registered(self, mono_ms: int) -> None:
        """A new session begins. `registered` does not say which register it answers. With several, the first is the
        safe assumption for leases, and the present for the timeout, until a heartbeat is acknowledged.
        """
        self._acked_ms = mono_ms
        if self._registering_since_ms is not None:
            self._heard_ms = max(self._heard_ms or 0, self._registering_since_ms)
            self._acked_ms = self._registering_since_ms if self._registers == 1 else mono_ms
        self._beats.clear()
        self._lapsed = False

    def on_database(self) -> None:
        """The scheduler has another database: what the previous one received renews nothing for it."""
        self._heard_ms = self._reported_ms = None

    def on_heartbeat(self, mono_ms: int) -> int:
        """A heartbeat is sent now. Returns its number."""
        self._seq += 1
        self._beats[self._seq] = mono_ms
        return self._seq

    def on_ack(self, seq: int) -> None:
        """The scheduler received that heartbeat. It counts from its send time: the ack may have waited here."""
        for beat in [beat for beat in self._beats if beat <= seq]:
            sent_ms = self._beats.pop(beat)
            self._acked_ms = max(self._acked_ms, sent_ms)
            self._heard_ms = max(self._heard_ms or 0, sent_ms)
            self._lapsed = False
            # All earlier registers are answered by now.
            self._registering_since_ms, self._registers = None, 0

    def take_unreported(self) -> int | None:
        """The time from which leases count, for the guard. None when the guard knows it, or no run has a lease."""
        if not self._lease_ms or self._heard_ms == self._reported_ms:
            return None
        self._reported_ms = self._heard_ms
        return self._heard_ms

    def add(self, run: int, lease_ms: int) -> int:
        """A run with a lease arrived. Returns the longest delay until the next heartbeat."""
        self._lease_ms[run] = lease_ms
        return lease.beat_ms(lease_ms)

    def remove(self, run: int) -> None:
        """A run has ended or is gone. Runs without a lease are ignored."""
        self._lease_ms.pop(run, None)

    def any_over(self, runs: Iterable[int], mono_ms: int) -> bool:
        """Whether the lease of any of these runs is over, so that the run can't start."""
        lengths = [self._lease_ms[run] for run in runs if run in self._lease_ms]
        if self._heard_ms is None:
            return bool(lengths)
        return any(mono_ms >= lease.term_at_ms(self._heard_ms, lease_ms) for lease_ms in lengths)

    def lapse(self) -> None:
        """A run came back because its lease was over."""
        self._lapsed = True

    def beat_ms(self, gap_ms_max: int) -> int:
        """The gap to the next heartbeat: `gap_ms_max`, or less for a lease."""
        return min([gap_ms_max, *map(lease.beat_ms, self._lease_ms.values())])

    def register_gap_ms(self, gap_ms_max: int) -> int:
        """The gap to the next register: `gap_ms_max`, or less for a lease."""
        return min([gap_ms_max, *map(lease.register_gap_ms, self._lease_ms.values())])
