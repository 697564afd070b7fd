"""The scheduler's program, which keeps the seconds of its longest turn in a file.

Usage: python -m bench.turns FILE [FLAGS]      (the flags of zsched's scheduler)

Started by other benchmarks. The file is written only when a turn was longer than all before, so it costs nothing.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from zsched.commands import scheduler
from zsched.scheduler.loop import Loop


def main() -> int:
    file, *flags = sys.argv[1:]
    turn, longest_s = Loop._turn, 0.0

    def timed(loop: Loop, *, last: bool = False) -> None:
        nonlocal longest_s
        began = time.monotonic()
        turn(loop, last=last)
        if (took_s := time.monotonic() - began) > longest_s:
            longest_s = took_s
            Path(file).write_text(f"{longest_s}\n", "ascii")

    Loop._turn = timed  # type: ignore[assignment, method-assign]
    return scheduler.main(flags)


if __name__ == "__main__":
    sys.exit(main())
