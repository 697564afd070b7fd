"""Mutants of a worker: its processes, its disk, each effect of the guard's core, each row of its two tables."""

from __future__ import annotations

from typing import Final

from tests.anchors import never, without_call, without_condition, without_row
from tests.sim.mutant import mutant
from zsched.worker.agent import session
from zsched.worker.guard import life

_UNREAD: Final = "if self._pipes._spawned[run.live_process.start].stdout in unread:\n                "

PROCESSES: Final = (
    mutant("KILL is not sent after the grace", without_call("Runs._on_due", "self.kill")),
    mutant("KILL is sent at once", ("Runs.stop", "now_ms + order.grace_ms", "now_ms")),
    mutant("TERM is not sent", ("Runs.stop", "self._effects.signals.append((process.pid, signal.SIGTERM))", "pass")),
    mutant("a run is stopped twice", never("Runs.stop", "run.phase is not Phase.RUNNING")),
    mutant("a run has no timeout", never("Runs.on_spawned", "order.timeout_ms is not None")),
    mutant("orphans are not killed before the report", ("Runs.on_orphans", " if start not in left", "")),
    mutant(
        "an orphan of a living run is killed",
        never("Runs.on_orphans", "run is not None and run.phase not in _ENDED"),
    ),
    mutant(
        "an orphan that left the session is not found",
        (
            "Runs.on_orphans",
            'self._of_mark.get(mark or "") or self._of_session.get(orphan.session)',
            "self._of_session.get(orphan.session)",
        ),
    ),
    mutant(
        "an orphan's session says whose it is, before its mark",
        (
            "Runs.on_orphans",
            'self._of_mark.get(mark or "") or self._of_session.get(orphan.session)',
            'self._of_session.get(orphan.session) or self._of_mark.get(mark or "")',
        ),
    ),
    mutant(
        "a killed orphan is forgotten before it is reaped",
        ("Runs.on_orphans", "self._killed_marks.get(orphan.pid) or orphan.mark", "orphan.mark"),
        ("Runs.on_orphans", " or self._of_session.get(orphan.session)", ""),
    ),
    mutant("orphans that do not die are not looked at again", ("Runs._kill_again", "self._scan = True", "pass")),
    mutant(
        "nothing is ever stuck",
        never(
            "Runs._check_stuck",
            "not process.stuck and process.killed_ms is not None and now_ms >= process.killed_ms + STUCK_MS",
        ),
    ),
    mutant("what has ended after all stays stuck", never("Runs.remove", "process.stuck")),
    mutant("a run's group is not killed at its end", without_call("Shell._reap", "host.signal_group")),
    mutant(
        "a run is over when its outputs are closed",
        ("Shell._scan", "for run in over:", "unread = self._pipes._open.keys()\n        for run in over:"),
        (
            "Shell._scan",
            "if self._pipes.finish(",
            _UNREAD + "continue\n            if self._pipes.finish(",
        ),
    ),
    mutant(
        "what is left in the outputs is not read",
        ("Pipes.finish", "and (count := self._read(fd, output))", "and (count := 0)"),
    ),
    mutant("children that have ended are not reaped", never("Shell._on_signals", "signal.SIGCHLD in caught")),
    mutant("more runs live than there are slots", ("Core.on_tick", "< self.slots", "< self.slots + 1")),
    mutant(
        "an agent that has died is not replaced",
        ("Supervisor.on_exit", "self._start_at_ms = now_ms + delay_ms", "pass"),
    ),
    mutant(
        "the last words of an agent are not read",
        ("Shell._on_agent_exit", "self._host.agent_fd is not None and self._receive()", "False"),
    ),
)

DISK: Final = (
    mutant("a failing disk is not noticed", ("Spool._on_failure", "self.failing = True", "pass")),
    mutant("an agent does not hear that the disk fails", never("Core.on_disk", "fails != self.disk_fails")),
    mutant(
        "an agent asks for runs though the disk fails", without_condition("FlowControl._amount", "self._disk_fails")
    ),
    mutant(
        "a file is not renewed when the disk is well again",
        ("Spool._on_failure", "self._renew_at_ms = mono_ms + RETRY_MS", "pass"),
    ),
    mutant("a failed sync is ignored", ("Spool.sync", "self._on_failure(error, mono_ms)", "pass")),
    mutant("a failed write is ignored", ("Spool.write", "self._on_failure(error, mono_ms)", "pass")),
    mutant("a failed sync is reported in the next turn", without_call("Shell.turn", "core.on_disk")),
    mutant(
        "results of a failing disk are not reported",
        ("Reports.take_ended", "return tuple(results)", "return tuple(results) if not self.state.disk_fails else ()"),
    ),
)

ARTIFACTS: Final = (
    mutant("artifacts are not read", ("Shell._scan", "wanted=run.fate is Fate.WANTED", "wanted=False")),
    mutant("a helper that hangs is waited for", ("Runs._on_due", "self._effects.late.append(run)", "pass")),
    mutant("the shell gives up no artifacts", without_call("Shell._finish_collected", "self._pipes.give_up")),
    mutant("half of the artifacts counts as all", never("Pipes._collect", "read and len(data) <= COLLECTED_BYTES_MAX")),
    mutant(
        "a run is over while its artifacts are read",
        ("Runs.on_orphans", " and run.phase is not Phase.COLLECTING", ""),
    ),
    mutant("artifacts that do not fit a frame are not sent", ("parts.frames", "return [*made, ", "return [")),
    mutant("artifacts are not stored", ("EndsWriter._finish", "if outcome.artifacts:", "if False:")),
    mutant("no event says that artifacts are missing", never("EndsWriter._finish", "outcome.left_out")),
)

# One for each effect of the core: the shell does not obey it.
EFFECTS: Final = (
    mutant("the shell sends no signals", without_call("Shell._signal", "self._host.signal_group")),
    mutant("the shell kills no orphans", without_call("Shell._scan", "host.kill")),
    mutant("the shell starts no runs", without_call("Shell._start_runs", "self._start")),
    mutant("the shell forgets no results", without_call("Shell._write", "spool.forget")),
    mutant("the shell writes no results", without_call("Shell._write", "spool.write")),
    mutant("the shell writes no results of other databases", without_call("Shell._write", "spool.write_aside")),
    mutant("the shell discards no results of other databases", without_call("Shell._write", "spool.discard")),
    mutant(
        "the shell does not change the spool's database",
        ("Shell._on_messages", "self._spool.enter(effects.enter, now_ms)", "self._spool.results()"),
    ),
    mutant("the shell sends no messages", without_call("Shell._send", "self._host.put")),
    mutant("the shell kills no agent that is stopped", without_call("Shell._tend_agent", "host.kill_agent")),
)

# A worker with a list of schedulers.
SEARCH: Final = (
    mutant(
        "a worker asks one scheduler of its list alone",
        ("Search.on_failed", "if index not in self._failed]", "if False]"),
        (
            "Search.on_failed",
            "self.index = next((index for index in order if index != self.left), self.index)",
            "pass",
        ),
    ),
)

ROWS: Final = (
    *(
        mutant(
            f"the run's table has no {event.value} of a run that is {phase.value}",
            without_row("life.MOVES", f"(Phase.{phase.name}, Event.{event.name})"),
        )
        for phase, event in life.MOVES
    ),
    *(
        mutant(
            f"the session's table has no {event.value} while {status.value}",
            without_row("session.MOVES", f"(Status.{status.name}, SessionEvent.{event.name})"),
        )
        for status, event in session.MOVES
    ),
)

_CROSSES: Final = (
    "frames must cross with the end of a session: too rare for these seeds. test_session_state.py tests it"
)

_READS: Final = "it must come in the moments in which artifacts are read. test_guard_core.py tests it"

EXCUSED: Final[dict[str, str]] = {
    "the run's table has no vanish of a run that is collecting": _READS,
    "the run's table has no give up of a run that is collecting": _READS,
    "the run's table has no discard of a run that is collecting": _READS,
    "the session's table has no accept while registered": "the next frame of the older session is answered by an"
    " error, and the agent registers again. test_session_state.py tests it",
    "the session's table has no refuse while unregistered": _CROSSES,
    "the session's table has no refuse while registered": _CROSSES,
    "the session's table has no refuse while withdrawing": _CROSSES,
    "the session's table has no leave while withdrawing": _CROSSES,
    "the run's table has no forget of a run that is ended": "it must be dropped in the 20 ms in which its result waits"
    " for others. test_guard_core.py tests it",
    "the run's table has no leave of a run that is given up": "the database must change while the worker ends."
    " test_guard_core.py tests it",
    "the run's table has no lose of a run that is aside": "the file of another database must be damaged."
    " test_guard_core.py tests it",
    "the last words of an agent are not read": "the next agent asks for the same, or the scheduler takes the run back",
    "a run's group is not killed at its end": "what is left in it becomes the guard's child, and is killed as an orphan"
    " in the same turn",
}
