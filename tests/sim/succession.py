"""Seeds with standbys: two or three schedulers share the store, and one replaces another at bad moments.

The leader stands still, inside a turn too, or while it sends; it can't reach the store; it dies, or hands over; or it
just loses its lock. The clocks of the schedulers differ. Everything else goes wrong as in the other seeds, but for
other databases and restores.
"""

from __future__ import annotations

from collections import defaultdict
from random import Random
from typing import Any, Final

import msgpack

from tests.sim.judge import Judge
from tests.sim.scheduler import Scheduler
from tests.sim.simulation import Simulation
from tests.sim.standbys import Former
from tests.sim.timeline import Clock
from tests.sim.violation import Violation

# The server ends the session of a leader that stands still: that of its lock, and that of its turn.
_LOST_MS: Final = (5_000, 8_000)
# A standby looks so often whether the lock is free.
_LOOK_MS: Final = (1, 2_000)


class Succession(Simulation):
    """`draw` decides what is of standbys alone."""

    def __init__(self, seed: int, *, story: bool = False) -> None:
        super().__init__(seed, story=story)
        self.draw = Random(f"standbys {seed}")
        self._lives = LivesJudge(self.judge, self.scheduler)
        self.scheduler.shared = True
        self.scheduler.after_turn = self._after_turn
        self.scheduler.on_replaced = self._on_replaced
        self.scheduler.on_former_arrival = self._lives.on_arrival
        self.scheduler.on_former_send = self._lives.on_send

    def _after_turn(self) -> None:
        self.judge.after_turn()
        self._lives.check_fires()

    def _plan(self, end_ms: int) -> None:
        faults = (self._pause, self._pause, self._cut_off, self._kill, self._hand_over, self._lose_lock)
        for _ in range(self.draw.choice((1, 2, 4, 6))):
            self.timeline.at(self.draw.randint(500, end_ms), self.draw.choice(faults))

    def _heal(self) -> None:
        for former in list(self.scheduler.formers):
            former.go_on()
        if self.scheduler.session is not None:
            self.scheduler.session.cut = False
        super()._heal()

    def check_end(self) -> None:
        if self.scheduler.formers:
            raise Violation("a scheduler does not find out that another one leads")

    # --- what happens to the leader ----------------------------------------------------------------------------------

    def _pause(self) -> None:
        """SIGSTOP: between two turns, inside one, or while it sends what it has stored."""
        scheduler = self.scheduler
        if not scheduler.up or scheduler.session is None:
            return
        gap_ms = self.draw.choice((4_000, 9_000, 20_000, 90_000))
        where = self.draw.choice(("between", "inside", "sending"))
        self.story.tell("nemesis", "stops the leader: %s", where)
        if where == "sending":
            scheduler.router.pause_in = self.draw.randint(0, 2)
            scheduler.router.on_pause = lambda: scheduler.stand_still(gap_ms)
        else:
            if where == "inside" and gap_ms > _LOST_MS[0]:
                scheduler.session.late = "statement"
            scheduler.stand_still(gap_ms)
        self.timeline.after(self._found_lost_ms(), self._take_over)

    def _cut_off(self) -> None:
        """It can't reach the store, for a moment or for long. Its workers and callers still reach it."""
        session = self.scheduler.session
        if not self.scheduler.up or session is None:
            return
        gap_ms = self.draw.choice((1_000, 4_000, 12_000, 40_000))
        self.story.tell("nemesis", "cuts the leader off from the store for %d ms", gap_ms)
        session.cut = True

        def mend() -> None:
            session.cut = False

        self.timeline.after(gap_ms, mend)
        if gap_ms > _LOST_MS[0]:
            self.timeline.after(self._found_lost_ms(), self._take_over)

    def _kill(self) -> None:
        self.scheduler.kill("killed, and a standby is there")
        self.timeline.after(self.draw.randint(*_LOOK_MS), self._take_over)

    def _hand_over(self) -> None:
        self.scheduler.stop()
        self.timeline.after(self.draw.randint(*_LOOK_MS), self._take_over)

    def _lose_lock(self) -> None:
        """The session of its lock is lost, and it does not know."""
        self._take_over()

    def _found_lost_ms(self) -> int:
        return self.draw.randint(*_LOST_MS) + self.draw.randint(*_LOOK_MS)

    def _take_over(self) -> None:
        scheduler = self.scheduler
        clock = Clock(self.timeline, self.draw.randint(0, 10**9))
        clock.wall_ms_off = self.draw.choice((0, 0, -400, 400, -20_000, 20_000))
        self.story.tell("standby", "takes over")
        self._inside = False
        scheduler.take_over(clock)

    def _on_replaced(self, former: Former) -> None:
        """Workers leave a scheduler that does not answer: those with a list find out by themselves."""
        if former.session.late == "statement" and self.draw.random() < 0.5:
            former.session.late = "commit"
        if self.habits.places > 1:
            return
        for connection in list(former.router.peers.values()):
            self.timeline.after(self.draw.choice((1_000, 8_000, 30_000)), connection.break_off)


class LivesJudge:
    """Judges what a scheduler does after another one has taken over, and recurring jobs across that."""

    def __init__(self, judge: Judge, scheduler: Scheduler) -> None:
        self._judge = judge
        self._scheduler = scheduler
        # The next time of each recurring job, and those at which it has fired; the runs that are known.
        self._next: dict[int, int | None] = {}
        self._fired: dict[int, set[int]] = defaultdict(set)
        self._runs: set[int] = set()
        # The latest time that the scheduler's wall clock has shown.
        self._latest_ms = 0

    def on_arrival(self, former: Former, peer: bytes, body: bytes) -> None:
        frame = _unpacked(body)
        self._judge.overseer.on_arrival(peer, frame)
        if frame.get("t") == "heartbeat":
            former.late_beats.add((frame["s"], frame["seq"]))

    def on_send(self, former: Former, connection: Any, body: bytes) -> None:
        """No lease is renewed by a scheduler that another one has replaced."""
        frame = _unpacked(body)
        self._judge.overseer.on_send(connection.peer, frame)
        if frame["t"] == "heartbeat_ack" and (frame["s"], frame["seq"]) in former.late_beats:
            raise Violation(
                f"heartbeat {frame['seq']} of session {frame['s']} came after its scheduler was replaced, and is acked"
            )

    def check_fires(self) -> None:
        """A recurring job fires once for each time of its schedule, unless a clock is set back to before that time."""
        look = self._scheduler.engine.look
        if self._scheduler.engine.in_turn:
            return
        wall_ms = self._scheduler.clock.now().wall_ms
        if wall_ms < self._latest_ms:
            for times in self._fired.values():
                times.difference_update({due_ms for due_ms in times if due_ms > wall_ms})
        self._latest_ms = wall_ms
        before = self._next
        self._next = dict(look("SELECT job_id, next_fire_ms FROM jobs WHERE schedule IS NOT NULL"))
        # Runs stay in the judge's picture.
        if len(self._judge.rows) == len(self._runs):
            return
        for run, row in self._judge.rows.items():
            if run in self._runs:
                continue
            self._runs.add(run)
            if self._judge._made.get(run) != "fire" or (due_ms := before.get(row.job)) is None:
                continue
            if due_ms in self._fired[row.job]:
                raise Violation(f"job {row.job} fires twice for {due_ms}")
            self._fired[row.job].add(due_ms)


def _unpacked(body: bytes) -> dict[str, Any]:
    try:
        frame = msgpack.unpackb(body)
    except ValueError:
        return {}
    return frame if isinstance(frame, dict) else {}
