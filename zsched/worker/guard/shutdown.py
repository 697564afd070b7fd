"""The orderly end of a worker: finish runs, deliver results, say goodbye. Each step has a deadline. Pure."""

from __future__ import annotations

import logging
from typing import Final

from zsched.model.units import counted
from zsched.worker.guard.core import Core
from zsched.worker.guard.supervisor import Supervisor

# After the last run: the time for the scheduler to answer results, and for the agent to say goodbye.
_DELIVERY_MS: Final = 5_000
_GOODBYE_MS: Final = 2_000

log = logging.getLogger(__name__)


class Shutdown:
    """`done`: the guard must exit with `exit_code`. The steps are begun, stopped (optional), delivering, leaving."""

    def __init__(self, worker: str, grace_ms: int, core: Core, supervisor: Supervisor) -> None:
        self.begun = False
        self.leaving = False
        self.done = False
        self.exit_code = 0
        self.deadline_ms: int | None = None
        self._stopped = False
        self._delivering = False
        self._worker = worker
        self._grace_ms = grace_ms
        self._core = core
        self._supervisor = supervisor

    def request(self, signal_name: str, now_ms: int) -> None:
        """A signal asks the worker to end. The first lets runs finish within the grace, the second stops them."""
        runs = counted(len(self._core.runs), "run")
        if self.begun:
            log.info("worker %s: %s again, stopping %s", self._worker, signal_name, runs)
            self.stop_all(now_ms)
            return
        log.info("worker %s: %s, finishing %s", self._worker, signal_name, runs)
        self.begun = True
        self.deadline_ms = now_ms + self._grace_ms
        self._core.effects.stopping = f"finishing {runs}"
        self._core.stop_accepting()

    def refuse(self, exit_code: int, now_ms: int) -> None:
        """The scheduler refuses this worker."""
        self.exit_code = exit_code
        self.stop_all(now_ms)

    def stop_all(self, now_ms: int) -> None:
        """End all runs without results."""
        self.begun = self._stopped = True
        self.deadline_ms = None
        self._core.stop_all(now_ms)

    def on_tick(self, now_ms: int) -> None:
        """Take the next step when it is due."""
        if not self.begun:
            return
        late = self.deadline_ms is not None and now_ms >= self.deadline_ms
        live, stuck = len(self._core.runs), len(self._core.runs.stuck)
        # Waiting for a run that can't be ended would be endless. The scheduler knows of it.
        if live > (stuck if self._stopped else 0):
            if late and not self._stopped:
                log.info("worker %s: %s did not finish in time", self._worker, counted(live, "run"))
                self.stop_all(now_ms)
        elif self.leaving:
            self._leave(late)
        elif not self._delivering:
            self._delivering = True
            self.deadline_ms = now_ms + _DELIVERY_MS
            self.on_tick(now_ms)
        elif late or self.exit_code or not self._core.undelivered:
            self._log_left()
            self.leaving = True
            self.deadline_ms = now_ms + _GOODBYE_MS
            self._core.say_leave()
            self._leave(late=False)

    def crash(self, exit_code: int) -> None:
        """End at once."""
        self.exit_code = exit_code
        self.done = True

    def _log_left(self) -> None:
        if stuck := tuple(sorted(run.number for run in self._core.runs.stuck)):
            log.error("worker %s: runs %s are left behind: they do not end", self._worker, stuck)
        if undelivered := self._core.undelivered:
            fate = "lost: the disk fails" if self._core.disk_fails else "kept on disk for the next start"
            log.warning("worker %s: did not deliver %s: %s", self._worker, counted(undelivered, "result"), fate)

    def _leave(self, late: bool) -> None:
        if late:
            self._core.effects.kill_agent = True
            self.deadline_ms = None
        self.done = self._supervisor.pid is None
