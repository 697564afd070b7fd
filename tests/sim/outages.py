"""Judges what turns that can't be stored must not change: who counts as silent, which rival is refused, which heartbeat
is acked, and how long a back-off lasts. Part of the judge.

It knows of words when they arrive, and of the clock what it shows; it never asks the dispatcher what that believes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tests.sim.scheduler import SLOW_COMMIT_MS, Scheduler
from tests.sim.timeline import Timeline
from tests.sim.violation import Violation
from zsched.model.limits import CRASH_DELAY_MS_MAX, JUMP_MS, LEASE_MARGIN_MS, MASS_WORKERS_MIN

# A silent worker is given up so soon after the first turn that could be stored: a pause of verdicts, and a tick.
_VERDICT_MS: Final = 2_000

_DUE: Final = "SELECT run_id, due_ms FROM runs WHERE status = 'pending' AND blocked & 2 <> 0"
_LEASE: Final = "SELECT max(lease_ms) FROM runs WHERE worker_id = ? AND status = 'running'"


class Outages:
    """`word_ms`: when the last word of each worker arrived, whether or not its turn could be stored."""

    def __init__(self, timeline: Timeline, scheduler: Scheduler, word_ms: Mapping[str, int]) -> None:
        self._timeline = timeline
        self._scheduler = scheduler
        self._word_ms = word_ms
        # When each rival asked, by worker and its own incarnation.
        self._asked: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        # By worker: the start that registered last, and when it did that first.
        self._took: dict[str, tuple[str, int]] = {}
        # The last word of each worker that was read, by its arrival, and when it had been read for sure.
        self._read: dict[str, tuple[int, int]] = {}
        self._incarnations: dict[bytes, str] = {}
        # The last heartbeat of each session that is not acked, by token and connection.
        self._owed: dict[tuple[str, bytes], Mapping[str, Any]] = {}
        # Since when a silent worker should have been given up.
        self._overdue: dict[str, int] = {}
        # When each back-off ends, on the timeline; since the scheduler's last start.
        self._due: dict[int, int] = {}
        self._started_ms = 0

    # --- what it overhears -------------------------------------------------------------------------------------------

    def on_arrival(self, peer: bytes, frame: Mapping[str, Any]) -> None:
        match frame.get("t"):
            case "register":
                worker, incarnation = frame["worker"], frame["incarnation"]
                self._incarnations[peer] = incarnation
                self._asked[worker, incarnation].append(self._timeline.now_ms)
            case "heartbeat":
                self._owed[frame["s"], peer] = frame

    def on_send(self, peer: bytes, worker: str, frame: Mapping[str, Any]) -> None:
        match frame["t"]:
            case "heartbeat_ack":
                owed = self._owed.get((frame["s"], peer))
                if owed is not None and owed["seq"] <= frame["seq"]:
                    del self._owed[frame["s"], peer]
            case "error" if frame["code"] == "E_DUP" and frame["fatal"]:
                self._check_refusal(peer, worker)
            case "registered":
                self._note_registered(peer, worker)

    def _note_registered(self, peer: bytes, worker: str) -> None:
        incarnation = self._incarnations.get(peer, "")
        if worker not in self._took or self._took[worker][0] != incarnation:
            self._took[worker] = incarnation, self._timeline.now_ms

    def _check_refusal(self, peer: bytes, worker: str) -> None:
        """A rival is refused for good only by a word of the name's holder that arrived after it had asked."""
        rival = self._incarnations[peer]
        # It may have asked in the turn in which the holder took the name.
        _, took_ms = self._took.get(worker, ("", 0))
        asked = self._asked[worker, rival]
        asked_ms = next((at_ms for at_ms in asked if at_ms >= took_ms - SLOW_COMMIT_MS), asked[-1])
        word_ms = self._word_ms.get(worker, 0)
        if word_ms <= asked_ms:
            raise Violation(
                f"{rival} is refused because worker {worker} lives, but it asked at {asked_ms} ms, and the last word of"
                f" that worker arrived at {word_ms} ms"
            )

    def _note_words(self) -> None:
        """All that has arrived is read. Words may have waited behind frames of turns that could not be stored."""
        for worker, word_ms in self._word_ms.items():
            if self._read.get(worker, (-1, 0))[0] < word_ms:
                self._read[worker] = word_ms, self._timeline.now_ms

    # --- after a turn ------------------------------------------------------------------------------------------------

    def after_turn(self, active: Iterable[str]) -> None:
        if not self._scheduler.up:
            return
        if self._scheduler.drained:
            self._note_words()
        session = self._scheduler.session
        if session is not None and session.cut:
            # It does not know whether it still leads.
            self._owed.clear()
        if self._scheduler.drained:
            self._check_acks()
        if self._scheduler.stored:
            self._check_due()
            ambushed = self._timeline.now_ms - self._scheduler.ambushed_ms < _VERDICT_MS
            if self._scheduler.engine.refusing or ambushed:
                # No verdict can be stored, or each turn with one met an ambush.
                self._overdue.clear()
            elif self._scheduler.drained:
                self._check_silence(frozenset(active))

    def _check_acks(self) -> None:
        """A heartbeat that was read is acked, whatever can't be stored; but for one that names runs that can't be
        ended, which an ack says to be stored.
        """
        for (token, peer), frame in list(self._owed.items()):
            if not self._scheduler.reaches(peer) or not self._scheduler.knows(token, peer):
                del self._owed[token, peer]
            elif not frame.get("stuck"):
                raise Violation(f"heartbeat {frame['seq']} of session {token} was read, but is not acked")
        self._scheduler.router.full.clear()

    def _check_silence(self, active: frozenset[str]) -> None:
        """Who is silent for too long is given up in turns that can be stored, however many others can't be."""
        now_ms, timeout_ms = self._timeline.now_ms, self._scheduler.habits.timeout_ms
        for worker in [one for one in self._overdue if one not in active]:
            del self._overdue[worker]
        for worker in active:
            since_ms = max(self._read.get(worker, (0, 0))[1], self._scheduler.started_ms)
            patience_ms = timeout_ms * (2 if len(active) >= MASS_WORKERS_MIN else 1) + self._still_ms(since_ms)
            if now_ms - since_ms > patience_ms and now_ms - since_ms > patience_ms + self._lease_ms(worker):
                overdue_ms = self._overdue.setdefault(worker, now_ms)
                late_ms = now_ms - overdue_ms - self._still_ms(overdue_ms)
                slow = self._scheduler.slow_ms >= overdue_ms
                if late_ms > _VERDICT_MS + 2 * (SLOW_COMMIT_MS if slow else self._scheduler.habits.commit_ms):
                    raise Violation(f"worker {worker} is silent for {now_ms - since_ms} ms, and is not given up")
            else:
                self._overdue.pop(worker, None)

    def _still_ms(self, since_ms: int) -> int:
        """For how long the scheduler has stood still since a moment."""
        now_ms = self._timeline.now_ms
        return sum(max(0, min(end, now_ms) - max(start, since_ms)) for start, end in self._scheduler.still)

    def _lease_ms(self, worker: str) -> int:
        """How much longer than others a worker with leases is waited for, at most."""
        lease_ms = self._scheduler.engine.look(_LEASE, worker)[0][0]
        return max(lease_ms, LEASE_MARGIN_MS, lease_ms // 30) + LEASE_MARGIN_MS if lease_ms else 0

    def _check_due(self) -> None:
        """A back-off or a delay is a span of time: its end does not depend on jumps of the wall clock."""
        if self._scheduler.started_ms != self._started_ms:
            # What the clock did while no scheduler ran, nobody has seen.
            self._started_ms = self._scheduler.started_ms
            self._due.clear()
        now_ms, wall_ms = self._timeline.now_ms, self._scheduler.clock.now().wall_ms
        before, self._due = self._due, {}
        for run, due_ms in self._scheduler.engine.look(_DUE):
            left_ms = due_ms - wall_ms
            ends_ms = self._due[run] = before.get(run, now_ms + left_ms)
            if left_ms > CRASH_DELAY_MS_MAX + JUMP_MS or abs(now_ms + left_ms - ends_ms) > JUMP_MS:
                raise Violation(f"run {run} should wait until {ends_ms} ms, but waits {left_ms} ms from now on")
