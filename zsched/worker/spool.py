"""The results that the guard holds until the scheduler has answered them. They survive the agent, not the guard."""

from __future__ import annotations

from zsched.protocol import RunResult


class Spool:
    """Results by run, in the order they came.

    Bounded by the agent's window: a held result counts as an unfinished run.
    """

    def __init__(self) -> None:
        self._results: dict[int, RunResult] = {}

    def __len__(self) -> int:
        return len(self._results)

    def __contains__(self, run: int) -> bool:
        return run in self._results

    def add(self, result: RunResult) -> None:
        """Take a result. From here on it may be told to the agent."""
        self._results[result.run] = result

    def forget(self, run: int) -> bool:
        """Whether there was one to forget."""
        return self._results.pop(run, None) is not None

    def results(self) -> tuple[RunResult, ...]:
        return tuple(self._results.values())
