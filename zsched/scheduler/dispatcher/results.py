"""Started and result frames: how runs begin and end, as their workers report it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from zsched import protocol
from zsched.model.limits import LINE_INTERVAL_MS, STALE_FRAME_GAP_MS, STALE_FRAMES_MAX
from zsched.model.rate import Rate, Throttled
from zsched.model.types import Now, Outcome, RunId, Verdict
from zsched.model.units import counted
from zsched.scheduler.dispatcher import losses
from zsched.scheduler.dispatcher.parts import Parts
from zsched.scheduler.dispatcher.session import Session
from zsched.scheduler.dispatcher.translation import moment, outcome
from zsched.store.contract import Store

log = logging.getLogger(__name__)


class Results:
    """Stores results and answers with `epoch`."""

    def __init__(self, store: Store, epoch: int) -> None:
        self._store = store
        self._epoch = epoch
        # Frames with stale results leave an event, so each worker has a bound of them.
        self._stale_frames = Rate(STALE_FRAMES_MAX, STALE_FRAME_GAP_MS)
        self._parts = Parts()
        # A line that a peer can cause with each of its frames.
        self._line = Throttled(log, logging.INFO, LINE_INTERVAL_MS)

    def on_started(self, session: Session, frame: protocol.Started, now: Now) -> None:
        """A run's process exists. If the run may be on probation, its time begins."""
        started = self._store.start(RunId(frame.run), session.name, moment(frame.at_ms, now))
        if started and self._store.load(session.name).probation:
            session.suspects.setdefault(RunId(frame.run), now.mono_ms)

    def on_artifacts(self, frame: protocol.Artifacts) -> None:
        """Artifacts that come before the result of their run."""
        self._parts.on_artifacts(frame)

    def on_result(self, session: Session, frame: protocol.Result, now: Now) -> protocol.ResultAck | None:
        """Store the results. The ack has a verdict on each that the worker need not send again; None: on none."""
        ended: dict[int, Outcome] = {}
        for result in frame.results:
            files = self._parts.take(frame.s, result)
            if files is None:
                line = "worker %s: parts of the artifacts of run %d are missing"
                self._line.write(now.mono_ms, line, session.name, result.run)
                continue
            # Of several results of one run, the first counts.
            ended.setdefault(result.run, outcome(result, files, now))
        for run in ended:
            losses.outlive(self._store, session, RunId(run))
        stored = self._store.finish_many(list(ended.values()), session.name, now.wall_ms)
        verdicts: dict[int, Verdict] = dict(zip(ended, stored, strict=True))
        unstored: dict[int, Outcome] = {}
        for run, end in ended.items():
            if verdicts[run] != "stored":
                unstored[run] = end
                continue
            log.debug("run %d: %s (%s), says worker %s", run, end.status, end.reason, session.name)
        if unstored:
            for run_id in self._note_unstored(session, unstored, verdicts, now):
                del verdicts[run_id]
        if not verdicts:
            return None
        return protocol.ResultAck(s=session.token, ep=self._epoch, verdicts=tuple(verdicts.items()))

    def _note_unstored(
        self, session: Session, unstored: Mapping[int, Outcome], verdicts: Mapping[int, Verdict], now: Now
    ) -> list[RunId]:
        """Some results of a frame were not stored: one log line and one event for all of them. Returns the stale ones
        that may not leave an event now, and that the worker has to send again.
        """
        why = ", ".join(sorted({verdicts[run] for run in unstored}))
        line = "worker %s: %s not stored (%s), of runs %d to %d"
        results = counted(len(unstored), "result")
        self._line.write(now.mono_ms, line, session.name, results, why, min(unstored), max(unstored))
        stale = [ended for run, ended in unstored.items() if verdicts[run] == "stale"]
        if not stale:
            return []
        if self._stale_frames.take(session.name, now.mono_ms):
            self._store.note_stale(stale, session.name, now.wall_ms)
            return []
        return [ended.run_id for ended in stale]
