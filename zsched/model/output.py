"""Output streams, cut to their first and last bytes. Pure."""

from __future__ import annotations

from zsched.model.types import Stream


def cut(stream: Stream, bytes_max: int) -> Stream:
    """At most `bytes_max` kept bytes: half of them from the end, the rest from the start."""
    head, tail, half = stream.head, stream.tail, bytes_max // 2
    if len(head) + len(tail) <= bytes_max:
        return stream
    if stream.cut == 0:
        # One text: where it was divided does not matter.
        head = tail = head + tail
    tail = tail[-half:]
    return Stream(head=head[: bytes_max - len(tail)], tail=tail, total=stream.total)
