"""One live run: its process, its outputs, and how it ends. Used by `runs` alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from zsched.protocol import RunOrder, RunResult
from zsched.worker.guard.pipes import OutputPipe

Why = Literal["timeout", "cancelled", "dropped", "lease_stop"]


@dataclass(slots=True, eq=False)
class LiveRun:
    """A run from the start of its process until all its processes are gone.

    `key` is its key in `Runs`: the number of the run, or a negative number if it is another database's. `why`: the
    reason for which the guard ends it. `ended`: si_code and si_status of waitid, once the main process has ended.
    """

    key: int
    order: RunOrder
    # Which of the guard's starts this was, from 0.
    start: int
    pid: int
    mark: str
    started_ms: int
    outputs: tuple[OutputPipe, OutputPipe]
    why: Why | None = None
    ended: tuple[int, int] | None = None
    finished_ms: int = 0
    # When the guard first sent KILL to it or to its orphans.
    killed_ms: int | None = None

    def result(self) -> RunResult:
        """The result, once the main process is reaped."""
        assert self.ended is not None
        code, status = self.ended
        exit_code = status if code == os.CLD_EXITED else None
        stdout, stderr = (output.capture.output() for output in self.outputs)
        natural: Literal["exit", "signal"] = "signal" if exit_code is None else "exit"
        # The result of a dropped run is never reported.
        reason = natural if self.why is None or self.why == "dropped" else self.why
        detail = ""
        if self.why == "lease_stop" and self.order.lease_ms is not None:
            lease_s = self.order.lease_ms / 1000
            detail = f"its worker could not reach the scheduler: ended within its lease of {lease_s:g} s"
        return RunResult(
            run=self.order.run,
            status="success" if exit_code == 0 and self.why is None else "failed",
            reason=reason,
            finished_ms=self.finished_ms,
            started_ms=self.started_ms,
            exit_code=exit_code,
            signal=status if exit_code is None else None,
            detail=detail,
            stdout=stdout,
            stderr=stderr,
        )
