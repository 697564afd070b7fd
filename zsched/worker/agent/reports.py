"""The results that the agent reports to the scheduler, and when each is due. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zsched.model.limits import RESULTS_BYTES_MAX, RESULTS_PER_FRAME_MAX
from zsched.protocol import RunResult
from zsched.worker.agent.pace import GrowingDelay
from zsched.worker.agent.parts import result_bytes


@dataclass(slots=True)
class _Report:
    result: RunResult
    delay: GrowingDelay
    due_ms: int | None = None


class Reports:
    """Results by run, until forgotten. An unanswered result is due again after 1, 2, 4 … 15 s, without end."""

    def __init__(self, results: Iterable[RunResult] = ()) -> None:
        self._reports: dict[int, _Report] = {}
        self._unsent: list[_Report] = []
        # No report is due before this time. Exact due times are in the reports; they are looked up at this time.
        self._look_at_ms: int | None = None
        self.add(results)

    def __len__(self) -> int:
        return len(self._reports)

    def add(self, results: Iterable[RunResult]) -> None:
        for result in results:
            report = self._reports[result.run] = _Report(result, GrowingDelay(str(result.run)))
            self._unsent.append(report)

    def forget(self, run: int) -> None:
        self._reports.pop(run, None)
        if not self._reports:
            self._look_at_ms = None

    def unsent(self, mono_ms: int) -> list[tuple[RunResult, ...]]:
        """Results that were never sent, in batches that fit a frame, but for artifacts. The caller sends them now."""
        reports = [report for report in self._unsent if self._reports.get(report.result.run) is report]
        return self._batches(reports, mono_ms)

    def all(self, mono_ms: int) -> list[tuple[RunResult, ...]]:
        """All results, for a new session. The caller sends them now."""
        for report in self._reports.values():
            report.delay.reset()
        return self._batches(list(self._reports.values()), mono_ms)

    def due(self, mono_ms: int) -> list[tuple[RunResult, ...]]:
        """Results to send again. The caller sends them now."""
        if self._look_at_ms is None or mono_ms < self._look_at_ms:
            return []
        due = [report for report in self._reports.values() if report.due_ms is not None and mono_ms >= report.due_ms]
        batches = self._batches(due, mono_ms)
        self._look_at_ms = min((report.due_ms for report in self._reports.values() if report.due_ms), default=None)
        return batches

    def deadline_ms(self) -> int | None:
        """When to call `due`; None when no result is unanswered."""
        return self._look_at_ms

    def _batches(self, reports: list[_Report], mono_ms: int) -> list[tuple[RunResult, ...]]:
        batches: list[tuple[RunResult, ...]] = []
        batch: list[RunResult] = []
        room = RESULTS_BYTES_MAX
        for report in reports:
            report.due_ms = mono_ms + report.delay.next_ms()
            self._look_at_ms = min(self._look_at_ms or report.due_ms, report.due_ms)
            size = result_bytes(report.result)
            if batch and (size > room or len(batch) == RESULTS_PER_FRAME_MAX):
                batches.append(tuple(batch))
                batch, room = [], RESULTS_BYTES_MAX
            batch.append(report.result)
            room -= size
        if batch:
            batches.append(tuple(batch))
        self._unsent.clear()
        return batches
