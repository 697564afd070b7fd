"""The lists of REST, page by page: a JSON array that ends before it gets too long, and the link to the rest (RFC 8288).

A page is made row by row and closed before anything of it is sent, so a slow caller never holds a read transaction.
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

# A page up to this size is one piece. Pieces are large enough that their number costs nothing.
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
    """Makes pages, for any thread. Of large ones only a few at the same time, so that the loop gets its share of the
    processor; of the next ones a few wait, and the others are refused.
    """

    def __init__(self, room: Room) -> None:
        """`room` has a place for each large page."""
        self._room = room

    def fill(self, found: Generator[T], view: Callable[[T], View], rows_max: int | None = None) -> Page[T]:
        """A page of at most rows_max rows and PAGE_BYTES_MAX bytes, but of at least one row if there is any.

        Closes `found`. It needs one row more than rows_max, so that the page knows whether any follow. Raises a 503
        Problem when too many large pages are wanted.
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
                # In place: a copy of each row would cost a tenth of a page.
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
    """Answer with a page. `following` is the address of the next one, used where more rows follow."""
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    if page.more:
        resp.set_header("Link", f'<{following}>; rel="next"')
    if len(page.pieces) == 1:
        resp.data = page.pieces[0]
    else:
        resp.set_stream(page.pieces, sum(map(len, page.pieces)))


def address(path: str, given: Mapping[str, str], **place: object) -> str:
    """The address of a page: the caller's own parameters, with those in `place` instead of or besides them."""
    return f"{path}?{urlencode({**given, **place})}"
