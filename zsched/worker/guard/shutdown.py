"""The orderly end of a worker: finish runs, deliver results, say goodbye. Each step has a deadline."""

from __future__ import annotations

import logging
from typing import Final

from zsched.config.config import WorkerConfig
from zsched.host.notify import Notify
from zsched.model.units import counted
from zsched.worker import messages
from zsched.worker.guard.executor import Executor
from zsched.worker.guard.spool import Spool
from zsched.worker.guard.supervisor import Supervisor

# After the last run: the time for the scheduler to answer results, and for the agent to say goodbye.
_DELIVERY_MS: Final = 5_000
_GOODBYE_MS: Final = 2_000

log = logging.getLogger(__name__)


class Shutdown:
    """`done`: the guard must exit with `exit_code`. The steps are begun, stopped (optional), delivering, leaving."""

    def __init__(
        self, config: WorkerConfig, executor: Executor, spool: Spool, supervisor: Supervisor, notify: Notify
    ) -> None:
        self.begun = False
        self.leaving = False
        self.done = False
        self.exit_code = 0
        self.deadline_ms: int | None = None
        self._stopped = False
        self._delivering = False
        self._config = config
        self._executor = executor
        self._spool = spool
        self._supervisor = supervisor
        self._notify = notify

    def request(self, signal_name: str, now_ms: int) -> None:
        """A signal asks the worker to end. The first lets runs finish within the grace, the second stops them."""
        runs = counted(self._executor.live, "run")
        if self.begun:
            log.info("worker %s: %s again, stopping %s", self._config.id, signal_name, runs)
            self.stop_all(now_ms)
            return
        log.info("worker %s: %s, finishing %s", self._config.id, signal_name, runs)
        self.begun = self._executor.stopping = True
        self._notify.stopping(f"finishing {runs}")
        self.deadline_ms = now_ms + self._config.shutdown_grace_ms
        self._supervisor.put(messages.Stopping())
        if unstarted := self._executor.withdraw():
            self._supervisor.put(messages.Unstarted(unstarted))

    def refuse(self, exit_code: int, now_ms: int) -> None:
        """The scheduler refuses this worker."""
        self.exit_code = exit_code
        self.stop_all(now_ms)

    def stop_all(self, now_ms: int) -> None:
        """End all runs without results."""
        self.begun = self._stopped = True
        self.deadline_ms = None
        self._executor.stop_all(now_ms)

    def on_tick(self, now_ms: int) -> None:
        """Take the next step when it is due."""
        if not self.begun:
            return
        late = self.deadline_ms is not None and now_ms >= self.deadline_ms
        stuck = self._executor.stuck
        # Waiting for a run that can't be ended would be endless. The scheduler knows of it.
        if self._executor.live > (len(stuck) if self._stopped else 0):
            if late and not self._stopped:
                runs = counted(self._executor.live, "run")
                log.info("worker %s: %s did not finish in time", self._config.id, runs)
                self.stop_all(now_ms)
        elif self.leaving:
            self._leave(late)
        elif not self._delivering:
            self._delivering = True
            self.deadline_ms = now_ms + _DELIVERY_MS
            self.on_tick(now_ms)
        elif late or self.exit_code or not len(self._spool):
            if stuck:
                log.error("worker %s: runs %s are left behind: they do not end", self._config.id, stuck)
            if len(self._spool):
                self._log_undelivered()
            self.leaving = True
            self.deadline_ms = now_ms + _GOODBYE_MS
            self._supervisor.put(messages.Leave())
            self._leave(late=False)

    def crash(self, exit_code: int) -> None:
        """End at once."""
        self.exit_code = exit_code
        self.done = True

    def _log_undelivered(self) -> None:
        fate = "lost: the disk fails" if self._spool.failing else "kept on disk for the next start"
        results = counted(len(self._spool), "result")
        log.warning("worker %s: did not deliver %s: %s", self._config.id, results, fate)

    def _leave(self, late: bool) -> None:
        if late:
            self._supervisor.kill()
            self.deadline_ms = None
        self.done = self._supervisor.pid is None
