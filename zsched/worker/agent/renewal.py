"""What renews a worker's session and its leases: the frames of which the agent knows that the scheduler got them. Pure.

An answer proves that its frame came, and nothing of when: it may have lain here for long before it was read. So all
counts from when that frame was sent. A lease's own times are in `lease`.
"""

from __future__ import annotations

from collections.abc import Iterable

from zsched.worker import lease


class Renewal:
    """The agent's: when its registers and heartbeats were sent, which of them have been answered, and its leases."""

    def __init__(self, leases: Iterable[tuple[int, int]] = ()) -> None:
        """`leases`: of each run that has one, and has not ended, its lease_ms."""
        self._lease_ms: dict[int, int] = dict(leases)
        # The last moment at which something was sent that the scheduler surely got; and what the guard knows of it.
        self._heard_ms: int | None = None
        self._told_heard_ms: int | None = None
        self._acked_ms = 0
        self._lapsed = False
        # When the registers were sent that may not have been answered: the first of them, and how many.
        self._registering_since_ms: int | None = None
        self._registers = 0
        self._seq = 0
        # When each heartbeat was sent that is not acked yet.
        self._beats: dict[int, int] = {}

    @property
    def acked_ms(self) -> int:
        """When the last frame was sent that this session has answered: its timeout counts from there."""
        return self._acked_ms

    @property
    def lapsed(self) -> bool:
        """Whether a run came back because its lease was over, and no answer has come since."""
        return self._lapsed

    @property
    def pressing(self) -> bool:
        """Whether a heartbeat has to follow `registered` at once: for a lease, or to know what that answered."""
        return bool(self._lease_ms) or self._registers != 1

    def on_register(self, mono_ms: int) -> None:
        """A register is sent now."""
        if self._registering_since_ms is None:
            self._registering_since_ms = mono_ms
        self._registers += 1

    def on_registered(self, mono_ms: int) -> None:
        """A new session begins. Which register is answered is not said: of several the first is the safe guess for
        leases, and now for the timeout, until a heartbeat is acked.
        """
        self._acked_ms = mono_ms
        if self._registering_since_ms is not None:
            self._heard_ms = max(self._heard_ms or 0, self._registering_since_ms)
            self._acked_ms = self._registering_since_ms if self._registers == 1 else mono_ms
        self._beats.clear()
        self._lapsed = False

    def on_database(self) -> None:
        """The scheduler has another database: what the one before got renews nothing for this one."""
        self._heard_ms = self._told_heard_ms = None

    def on_heartbeat(self, mono_ms: int) -> int:
        """A heartbeat is sent now. Returns its number."""
        self._seq += 1
        self._beats[self._seq] = mono_ms
        return self._seq

    def on_ack(self, seq: int) -> None:
        """The scheduler has heard us since that heartbeat. Not since now: the ack may have lain here for long."""
        for beat in [beat for beat in self._beats if beat <= seq]:
            sent_ms = self._beats.pop(beat)
            self._acked_ms = max(self._acked_ms, sent_ms)
            self._heard_ms = max(self._heard_ms or 0, sent_ms)
            self._lapsed = False
            # Whatever registers there were before it, they have been answered by now.
            self._registering_since_ms, self._registers = None, 0

    def take_untold(self) -> int | None:
        """From when leases count, for the guard. None when the guard knows it, or no run has one."""
        if not self._lease_ms or self._heard_ms == self._told_heard_ms:
            return None
        self._told_heard_ms = self._heard_ms
        return self._heard_ms

    def add(self, run: int, lease_ms: int) -> int:
        """A run came that has a lease. Returns how soon the next heartbeat has to follow."""
        self._lease_ms[run] = lease_ms
        return lease.beat_ms(lease_ms)

    def remove(self, run: int) -> None:
        """A run has ended or is gone. One without a lease may be named too."""
        self._lease_ms.pop(run, None)

    def over(self, runs: Iterable[int], mono_ms: int) -> bool:
        """Whether the lease of any of them is over, so that it can't start."""
        lengths = [self._lease_ms[run] for run in runs if run in self._lease_ms]
        if self._heard_ms is None:
            return bool(lengths)
        return any(mono_ms >= lease.term_at_ms(self._heard_ms, lease_ms) for lease_ms in lengths)

    def lapse(self) -> None:
        """A run came back because its lease was over."""
        self._lapsed = True

    def beat_ms(self, most_ms: int) -> int:
        """The gap to the next heartbeat: as given, or less for a lease."""
        return min([most_ms, *map(lease.beat_ms, self._lease_ms.values())])

    def register_gap_ms(self, most_ms: int) -> int:
        """The gap to the next register: as given, or less for a lease."""
        return min([most_ms, *map(lease.register_gap_ms, self._lease_ms.values())])
