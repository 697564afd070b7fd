"""Running a seed, and telling its story when it breaks a promise."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tests.sim.simulation import Outcome, Simulation
from tests.sim.succession import Succession
from tests.sim.violation import Violation

# The end of a story says most.
STORY_LINES = 400

# Seeds from here on have several schedulers.
STANDBYS = 1_000_000

# A seed takes a fifth of a second. One that takes so much of the processor hangs in one step, where time can't end it.
SEED_SECONDS_MAX = 30.0


def run_seed(seed: int) -> tuple[str | None, Outcome | None]:
    """The promise that was broken, or what the seed did. Any exception is a broken promise."""
    try:
        with _bounded():
            return None, simulation(seed).run()
    except Violation as violation:
        return str(violation), None
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{error!r} at {where.filename.rpartition('/')[2]}:{where.lineno}", None


def simulation(seed: int, *, story: bool = False) -> Simulation:
    """The simulation of a seed. Those from STANDBYS on have several schedulers."""
    return Succession(seed, story=story) if seed >= STANDBYS else Simulation(seed, story=story)


@contextmanager
def _bounded() -> Iterator[None]:
    """Raise Violation in what takes more than a seed may. Only in a process's main thread."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise Violation(f"a step does not end: {SEED_SECONDS_MAX:g} s of the processor")

    before = signal.signal(signal.SIGVTALRM, hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, SEED_SECONDS_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def story_of(seed: int, lines: int | None = None) -> str:
    """The seed once more, told line by line, with its end."""
    told_seed = simulation(seed, story=True)
    try:
        end = f"all went well: {told_seed.run()}"
    except Violation as violation:
        end = f"BROKEN: {violation}"
    except Exception:
        end = f"BROKEN: {traceback.format_exc()}"
    told = told_seed.story.lines
    cut = [] if lines is None or len(told) <= lines else [f"… {len(told) - lines} lines before"]
    return "\n".join([*cut, *(told if lines is None else told[-lines:]), end])


def check(seeds: range) -> None:
    """Raise AssertionError with the story of the first seed that breaks a promise."""
    for seed in seeds:
        failure, _ = run_seed(seed)
        if failure is not None:
            raise AssertionError(
                f"seed {seed}: {failure}\n{story_of(seed, STORY_LINES)}\n"
                f"the whole story: python -m tests.sim --story {seed}"
            )
