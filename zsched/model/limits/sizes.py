"""Units of sizes in bytes."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# The largest integer that JSON readers in other languages and SQLite both carry without loss. More is 400, or no frame.
INTEGER_MAX = 2**53
