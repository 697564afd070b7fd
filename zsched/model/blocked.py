"""Bits that keep a pending run from being claimed. A run without any bit is ready, so a claim never skips a row."""

from __future__ import annotations

from typing import Final


class Blocked:
    """Bits of a run's column `blocked`, and what each of them waits for."""

    # It is a run of an array, and its task is not open: it has no place under the cap. What has another bit here that
    # is not LIMITED or AVOIDS has this one, too, and waits for a place afterwards.
    CAP: Final = 1
    # Its task waits for the end of a back-off or of a delay: a duration, whatever the wall clock says.
    DUE: Final = 2
    # Its demand has limits. It is claimed with the bit, while there is room under all of them; so a run that comes back
    # from its worker has it still.
    LIMITED: Final = 4
    # Its job is held. A running run keeps the bit, so that what comes after it is held too.
    HELD: Final = 8
    # It prefers another worker than the one on which its task has failed.
    AVOIDS: Final = 16
    # Its task waits for a time of the wall clock.
    DATE: Final = 64
