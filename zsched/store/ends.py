"""How runs end: results, losses, and ends by the scheduler's decision. Part of the write side (see core.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zsched.model.events import EventKind
from zsched.model.files import pack
from zsched.model.lifecycle import TERMINAL, Cause
from zsched.model.types import Outcome, Reason, RunId, RunStatus, Verdict, WorkerId
from zsched.model.units import counted, some
from zsched.store import content_sql, sql, transitions
from zsched.store.engine import Row
from zsched.store.ledger import Note
from zsched.store.lives import PENDING, RUNNING, Change, Lives

# Ends that the scheduler decided, and no worker reported.
_DECIDED: Final = frozenset({Reason.WORKER_LOST, Reason.CRASH_LIMIT, Reason.UNKILLABLE, Reason.QUARANTINED})


class EndsWriter(Lives):
    """The role contract.Runs, about the ends of runs."""

    # --- what a worker reports ---

    def finish(self, outcome: Outcome, worker_id: WorkerId, now_ms: int, *, text: bool = False) -> Verdict:
        return self._finish([outcome], worker_id, "text" if text else "streams", now_ms)[0]

    def finish_many(self, outcomes: Sequence[Outcome], worker_id: WorkerId, now_ms: int) -> list[Verdict]:
        return self._finish(outcomes, worker_id, "streams", now_ms)

    def _finish(self, outcomes: Sequence[Outcome], worker_id: WorkerId, form: str, now_ms: int) -> list[Verdict]:
        by_cause: dict[Cause, list[Outcome]] = {}
        for outcome in outcomes:
            by_cause.setdefault(_cause(outcome), []).append(outcome)
        ended: set[int] = set()
        for cause, reported in by_cause.items():
            ended |= self._end_reported(cause, reported, worker_id, now_ms)
        verdicts: list[Verdict] = []
        outputs: list[Row] = []
        artifacts: list[Row] = []
        for outcome in outcomes:
            run_id = outcome.run_id
            if run_id not in ended:
                verdicts.append(self._why_refused(outcome, worker_id))
                continue
            verdicts.append("stored")
            out, err = outcome.stdout, outcome.stderr
            if out.total or err.total:
                outputs.append((run_id, form, out.head, out.tail, out.total, err.head, err.tail, err.total))
            if outcome.artifacts:
                artifacts.append((run_id, *pack(outcome.artifacts)))
            if outcome.left_out:
                self._note_left_out(outcome, worker_id, now_ms)
        if outputs:
            self._engine.sendmany(content_sql.ADD_OUTPUT, outputs)
        if artifacts:
            self._engine.sendmany(content_sql.ADD_ARTIFACTS, artifacts)
        return verdicts

    def _note_left_out(self, outcome: Outcome, worker_id: WorkerId, now_ms: int) -> None:
        """Artifacts of a run that has ended were not kept. The event is about its job: it changes no run."""
        run = self.run(outcome.run_id)
        assert run is not None
        detail = f"run {run.run_id}: {outcome.detail or counted(outcome.left_out, 'artifact')}"
        became = EventKind.ARTIFACTS_LEFT_OUT
        actor = f"worker {worker_id}"
        self._ledger.note(Note(at_ms=now_ms, actor=actor, became=became, job_id=run.job_id, detail=detail))

    def _end_reported(self, cause: Cause, outcomes: Sequence[Outcome], worker_id: WorkerId, now_ms: int) -> set[int]:
        """End those of the runs that are running on the worker; returns them."""
        values = [
            (
                outcome.reason, outcome.detail or None, outcome.exit_code, outcome.signal, outcome.started_ms,
                outcome.finished_ms, outcome.run_id,
            )
            for outcome in outcomes
        ]  # fmt: skip
        change = Change(
            at_ms=now_ms,
            actor=f"worker {worker_id}",
            worker_id=worker_id,
            reasons={outcome.run_id: outcome.reason for outcome in outcomes},
            took_ms={
                outcome.run_id: max(0, outcome.finished_ms - outcome.started_ms)
                for outcome in outcomes
                if outcome.started_ms is not None
            },
        )
        one, many = _result(cause)
        was = RUNNING, cause
        known = self._ahead.reported.find(*was, [outcome.run_id for outcome in outcomes], worker_id)
        if len(values) == 1:
            moved = self._move(was, one, values[0], change, known)
        else:
            moved = self._move_list(was, (many, ()), values, change, known)
        return {each.run_id for each in moved}

    def _why_refused(self, outcome: Outcome, worker_id: WorkerId) -> Verdict:
        run = self.run(outcome.run_id)
        if run is None:
            return "unknown"
        if run.worker_id == worker_id and run.status in TERMINAL and run.reason not in _DECIDED:
            return "duplicate"
        return "stale"

    def note_stale(self, stale: Sequence[Outcome], worker_id: WorkerId, now_ms: int) -> None:
        first = stale[0]
        run = self.run(first.run_id)
        assert run is not None
        detail = f"{worker_id} says {first.status}, but the run is {run.status}"
        if len(stale) > 1:
            runs = sorted(outcome.run_id for outcome in stale)
            detail += f"; {len(runs)} such results came at once, for runs {runs[0]} to {runs[-1]}: {some(runs)}"
        self._ledger.note(
            Note(
                at_ms=now_ms, actor=f"worker {worker_id}", job_id=run.job_id, run_id=run.run_id, worker_id=worker_id,
                was=run.status, became=run.status, reason="stale", detail=detail,
            )
        )  # fmt: skip

    def mark_stuck(self, run_id: RunId, worker_id: WorkerId, now_ms: int) -> bool:
        hanging = self._execute(transitions.HANGING, (run_id, worker_id))
        if not hanging:
            return False
        change = Change(
            at_ms=now_ms,
            actor=f"worker {worker_id}",
            worker_id=worker_id,
            detail="its processes were killed and do not end",
        )
        self._move((RUNNING, Cause.HANG), transitions.HANG, (run_id,), change, hanging)
        return True

    # --- runs that the scheduler ends ---

    def fail_lost(
        self, run_id: RunId, detail: str, *, crash: bool, together: int, due_ms: int | None, now_ms: int
    ) -> RunStatus:
        cause, statement = Cause.LOSE, transitions.LOSE
        if crash:
            cause, statement = Cause.CRASH, transitions.CRASH
            crashes, crash_limit = self._execute(sql.CRASHES, (run_id,))[0]
            if 0 < crash_limit <= crashes + 1:
                cause, statement = Cause.LAST_CRASH, transitions.LAST_CRASH
        change = Change(at_ms=now_ms, detail=detail, together=together, due_ms=due_ms)
        lost = self._move((RUNNING, cause), statement, (change.detail, now_ms, run_id), change)
        assert lost, "only a running run can be lost"
        status = lost[0].move.became.status
        assert status is not None
        return status if lost[0].successor is None else PENDING

    def end_overdue(self, now_ms: int) -> list[tuple[WorkerId, RunId]]:
        change = Change(at_ms=now_ms, detail="its time is over, and its worker has not reported its end")
        overdue = self._move((RUNNING, Cause.OVERDUE), transitions.OVERDUE, (change.detail, now_ms, now_ms), change)
        return [(each.worker_id, each.run_id) for each in overdue if each.worker_id is not None]

    def expire(self, now_ms: int, count: int) -> int:
        expired = [run_id for (run_id,) in self._execute(transitions.EXPIRED, (now_ms, count))]
        if expired:
            self._expire(expired, now_ms)
        return len(expired)

    def end_cancelled(self, run_id: RunId, now_ms: int) -> None:
        change = Change(at_ms=now_ms)
        ended = self._move((RUNNING, Cause.WITHDRAW), transitions.WITHDRAW, (None, now_ms, run_id), change)
        assert ended, "only a running run with a stored cancel can be withdrawn"

    def quarantine(self, run_id: RunId, why: str, now_ms: int) -> None:
        change = Change(at_ms=now_ms, detail=why)
        self._move((RUNNING, Cause.QUARANTINE), transitions.QUARANTINE, (why, now_ms, run_id), change)


def _cause(outcome: Outcome) -> Cause:
    """The cause that a worker's report is."""
    if outcome.status is RunStatus.SUCCESS:
        return Cause.SUCCEED
    if outcome.reason == Reason.CWD_MISSING:
        return Cause.REFUSE
    return Cause.LAPSE if outcome.reason == Reason.LEASE_STOP else Cause.FAIL


def _result(cause: Cause) -> tuple[str, str]:
    """The statements that store one report of a cause, and several."""
    return {
        Cause.SUCCEED: (transitions.SUCCEED, transitions.SUCCEED_MANY),
        Cause.FAIL: (transitions.FAIL, transitions.FAIL_MANY),
        Cause.LAPSE: (transitions.LAPSE, transitions.LAPSE_MANY),
        Cause.REFUSE: (transitions.REFUSE, transitions.REFUSE_MANY),
    }[cause]
