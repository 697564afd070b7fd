"""Redaction: secrets in a job's output are replaced by `***` before it is kept or shown. Pure.

A secret may be split between two reads, so a possible beginning of one waits for the next read, or for the stream's
end. Secrets are found byte for byte: one that the job encodes is not. Each longer line of a secret counts as a secret
too, since programs often write lines one by one, as `echo $KEY` does.

Each secret is searched by bytes.find: for 30 lines in 64 KiB that takes 0.2 ms, and an alternation of `re` takes 2.
Overlapping occurrences are merged by the secret's period (Knuth, Morris, Pratt). Merging them by bytes.rfind needs less
code, but with 128 lines `aaa…` of different lengths it takes 530 ms for 64 KiB instead of 90. The guard does nothing
else meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from zsched.model.limits import SECRET_BYTES_MIN, SECRET_LINES_MAX

_STARS: Final = b"***"


def patterns(values: Iterable[str]) -> list[bytes]:
    """The texts to redact for these secret values: the values, and the lines of those with several.

    White space around a line is ignored. Lines shorter than SECRET_BYTES_MIN are found in whole values only. Of more
    than SECRET_LINES_MAX lines the longest count.
    """
    whole = {value.encode() for value in values}
    lines = {line.strip() for value in whole if b"\n" in value for line in value.split(b"\n")} - whole
    long = sorted((line for line in lines if len(line) >= SECRET_BYTES_MIN), key=len, reverse=True)
    return [*whole, *long[:SECRET_LINES_MAX]]


class Redactor:
    """Redacts one stream. It holds back less than the longest secret."""

    __slots__ = ("_covered", "_held", "_longest", "_periods", "_secrets")

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._secrets = sorted(set(secrets), key=len)
        self._longest = len(self._secrets[-1])
        # The period of each secret, computed when it is first found.
        self._periods: dict[bytes, int] = {}
        self._held = b""
        # How many of the held bytes belong to a secret whose stars were already returned.
        self._covered = 0

    def feed(self, data: bytes) -> bytes:
        """The redacted output up to here. The rest follows from a later call."""
        return self._redact(self._held + data, ended=False)

    def end(self) -> bytes:
        """The rest, at the end of the stream."""
        return self._redact(self._held, ended=True)

    def _redact(self, data: bytes, *, ended: bool) -> bytes:
        safe = len(data) if ended else self._safe_length(data)
        if not safe:
            self._held = data
            return b""
        parts: list[bytes] = []
        done = covered = 0
        for begin, end in self._spans(data):
            if begin >= safe:
                break
            parts.append(data[done:begin])
            if begin or not self._covered:
                parts.append(_STARS)
            done = min(end, safe)
            covered = max(0, end - safe)
        parts.append(data[done:safe])
        self._held, self._covered = data[safe:], covered
        return b"".join(parts)

    def _spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """The spans (begin, end) of secrets in the data, in order. Overlapping spans are merged."""
        spans = [(0, self._covered)] if self._covered else []
        for secret in self._secrets:
            spans += self._spans_of(data, secret)
        spans.sort()
        begin, end = 0, -1
        for first, last in spans:
            if first < end:
                end = max(end, last)
                continue
            if end > 0:
                yield begin, end
            begin, end = first, last
        if end > 0:
            yield begin, end

    def _spans_of(self, data: bytes, secret: bytes) -> Iterator[tuple[int, int]]:
        """The spans of one secret. Occurrences that overlap by its period, as `aaaa` in many `a`, are merged. So there
        are few spans, whatever the job writes and whatever its secrets are.
        """
        begin = data.find(secret)
        while begin >= 0:
            if secret not in self._periods:
                self._periods[secret] = _period(secret)
            end = begin + len(secret)
            if (period := self._periods[secret]) < len(secret):
                end += _repeated(data, end, data[end - period : end])
            yield begin, end
            # Another occurrence may begin within the last one.
            begin = data.find(secret, end - len(secret) + 1)

    def _safe_length(self, data: bytes) -> int:
        """The length of the data without a possible incomplete secret at its end."""
        first = len(data)
        for secret in self._secrets:
            place = data.find(secret[:1], max(0, len(data) - len(secret) + 1), first)
            while place >= 0:
                if secret.startswith(data[place:]):
                    first = place
                    break
                place = data.find(secret[:1], place + 1, first)
        return first


def _period(secret: bytes) -> int:
    """The smallest shift by which a text matches itself, at most its length."""
    # For each prefix, the length of its longest border: a proper prefix that is also its suffix.
    borders = [0] * len(secret)
    border = 0
    for place in range(1, len(secret)):
        while border and secret[place] != secret[border]:
            border = borders[border - 1]
        border += secret[place] == secret[border]
        borders[place] = border
    return len(secret) - border


def _repeated(data: bytes, begin: int, unit: bytes) -> int:
    """The number of bytes from `begin` on that repeat the unit."""
    end = begin
    step = unit
    while data.startswith(step, end):
        end += len(step)
        step += step
    # The remainder is shorter than the last step: halve the step.
    while len(step) > len(unit):
        step = step[: len(step) // 2]
        if data.startswith(step, end):
            end += len(step)
    return end - begin
