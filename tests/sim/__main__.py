"""Run seeds by hand: python -m tests.sim --seeds 0-299 [--story 17] [--seconds 60]"""

# ruff: noqa: T201  (stdout is the interface)
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from tests.sim.runner import run_seed, story_of


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Simulate zsched, seed by seed.")
    parser.add_argument("--seeds", default="0-299", help="a seed, or the first and the last with a dash")
    parser.add_argument("--seconds", type=float, help="stop after so long; without --seeds go on for so long")
    parser.add_argument("--story", type=int, metavar="SEED", help="tell one seed's story, also if all goes well")
    asked = parser.parse_args()
    if asked.story is not None:
        print(story_of(asked.story))
        return 0
    begun = time.monotonic()
    count = steps = virtual_ms = checks = runs = broken = excused = 0
    for seed in _seeds(asked.seeds):
        if asked.seconds is not None and time.monotonic() - begun > asked.seconds:
            break
        failure, outcome = run_seed(seed)
        count += 1
        if failure is not None:
            broken += 1
            print(f"seed {seed}: {failure}", flush=True)
            continue
        assert outcome is not None
        steps += outcome.steps
        virtual_ms += outcome.virtual_ms
        checks += outcome.checks
        runs += outcome.runs
        excused += outcome.excused
    took_s = time.monotonic() - begun
    print(
        f"{count} seeds, {broken} broken; {steps} steps, {checks} turns judged, {runs} runs,"
        f" {excused} overlaps that nobody can prevent,"
        f" {virtual_ms / 3_600_000:.1f} virtual hours; {took_s:.1f} s, {steps / took_s:.0f} steps/s"
    )
    return 1 if broken else 0


def _seeds(text: str) -> Iterator[int]:
    first, _, last = text.partition("-")
    yield from range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    sys.exit(main())
