"""Pages of REST lists: a JSON array of bounded size, and a Link to the next page (RFC 8288).

A page is built row by row, and complete before it is sent, so a slow caller never holds a read transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from urllib.parse import urlencode

import falcon
import msgspec

from zsched.api.room import Room
from zsched.api.views import View
from zsched.model.limits import PAGE_BYTES_MAX

T = TypeVar("T")

# A page up to this size is one chunk. Chunks are so large that their number does not matter.
_PIECE_BYTES: Final = 256 * 1024
_ENCODER: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A JSON array in pieces. `last` is the last row in it, None in an empty page; `more`: whether rows follow."""

    pieces: list[bytes]
    rows: int
    last: T | None
    more: bool


class Pages:
    """Builds pages, in any thread. Only a few large ones at the same time, so that the loop gets its share of the CPU;
    a few more wait, and the others are refused.
    """

    def __init__(self, room: Room) -> None:
        """`room` has a place for each large page."""
        self._room = room

    def fill(self, found: Generator[T], view: Callable[[T], View], rows_max: int | None = None) -> Page[T]:
        """A page of at most rows_max rows and PAGE_BYTES_MAX bytes, but of at least one row if there is any.

        Closes `found`, which needs one row more than rows_max, to show whether more follow. Raises a 503 Problem if
        there are too many large pages.
        """
        pieces: list[bytes] = []
        piece, before = bytearray(b"["), 0
        rows, last, more = 0, None, False
        with closing(found), ExitStack() as place:
            for row in found:
                if rows == rows_max:
                    more = True
                    break
                end = len(piece)
                if rows:
                    piece += b","
                # In place: a copy of each row would cost a tenth of the time.
                _ENCODER.encode_into(view(row), piece, -1)
                # 1: the bracket at the end.
                if rows and before + len(piece) + 1 > PAGE_BYTES_MAX:
                    del piece[end:]
                    more = True
                    break
                rows, last = rows + 1, row
                if len(piece) >= _PIECE_BYTES:
                    if not pieces:
                        place.callback(self._room.give_back, self._room.take(1))
                    pieces.append(bytes(piece))
                    before += len(piece)
                    piece.clear()
            pieces.append(bytes(piece + b"]"))
        return Page(pieces, rows, last, more)


def answer_page(resp: falcon.Response, page: Page[T], following: str = "", status: int = 200) -> None:
    """Answer with a page. `following` is the address of the next page, used if more rows follow."""
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    if page.more:
        resp.set_header("Link", f'<{following}>; rel="next"')
    if len(page.pieces) == 1:
        resp.data = page.pieces[0]
    else:
        resp.set_stream(page.pieces, sum(map(len, page.pieces)))


def address(path: str, given: Mapping[str, str], **place: object) -> str:
    """The address of a page: the caller's parameters, with those of `place` added or replaced."""
    return f"{path}?{urlencode({**given, **place})}"
