"""Judges retries: which failures are tried again, by what the client asked for. Part of the judge.

It reads `retry_on` as docs/rest.md describes it, and never asks zsched what it means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.sim.callers import Asked
from tests.sim.scheduler import Scheduler

# Which ends of a run each `retry_on` of callers.RETRY_ON means: a reason, and exit codes or signals.
_MEANING: Final[Mapping[tuple[str, ...], tuple[tuple[str, range | None], ...]]] = {
    ("7",): (("exit", range(7, 8)),),
    ("2-9", "timeout"): (("exit", range(2, 10)), ("timeout", None)),
    ("exit",): (("exit", None),),
    ("TERM", "spawn_error"): (("signal", range(15, 16)), ("spawn_error", None)),
    ("signal", "reported", "1"): (("signal", None), ("reported", None), ("exit", range(1, 2))),
}
_END: Final = """
    SELECT j.name, r.reason, r.exit_code, r.signal FROM runs r JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id = ?"""


class Retries:
    """`asked`: what the client asked for, by the name of the job."""

    def __init__(self, scheduler: Scheduler, asked: Mapping[str, Asked]) -> None:
        self._scheduler = scheduler
        self._asked = asked

    def wants(self, run: int) -> bool:
        """Whether the job of a run that has failed by itself wants a retry of such a failure."""
        name, reason, exit_code, signal = self._scheduler.engine.look(_END, run)[0]
        retry_on = self._asked[name].policy.retry_on
        if not retry_on:
            return True
        number = signal if reason == "signal" else exit_code
        return any(meant == reason and (of is None or number in of) for meant, of in _MEANING[retry_on])
