"""Results of submits that carried an Idempotency-Key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from zsched.model.types import JobId


@dataclass(frozen=True, slots=True)
class Submitted:
    """Result of a submit with an Idempotency-Key: the number of jobs, the first and the last id.

    `digest`: the digest of the request.
    """

    digest: bytes
    first: JobId
    last: JobId
    jobs: int


class Idempotency(Protocol):
    """Results of submits, by caller and SHA-256 of the Idempotency-Key. Part of the write side."""

    def find(self, caller: str, key: bytes, after_ms: int) -> Submitted | None:
        """Result of the caller's submit with this key, if it was stored after after_ms."""

    def keep(self, caller: str, key: bytes, submitted: Submitted, now_ms: int) -> None:
        """Store the result of a submit made in this transaction. Replaces an older result with the same key."""

    def forget(self, until_ms: int, count: int) -> int:
        """Delete up to `count` results stored until until_ms, oldest first; returns the number deleted."""
