"""What is one HTTP request: Waitress's parser, and what it lets pass and we do not.

Where two readers of the same bytes see different requests, one is smuggled past the other (RFC 9112, 11.2). So what can
be read in two ways is read in none: such a request is answered 400, and nothing that comes after it is looked at.
"""

from __future__ import annotations

import re
from typing import Any, Final

import waitress.parser
import waitress.receiver
from waitress.utilities import BadRequest, Error

_FOLDED: Final = re.compile(rb"\r\n[ \t]")
_CODING: Final = re.compile(rb"(?i)\r\ntransfer-encoding:([^\r]*)")
# A chunk's size with its extensions, and what may come after the last chunk. Waitress copies these with each piece that
# arrives, so that megabytes of them would cost seconds.
_CONTROL_BYTES_MAX: Final = 4096

# Waitress ends both with `$`, which lets a newline stand before the end: other readers take that for the line's end.
waitress.receiver.ONLY_HEXDIG_RE = re.compile(rb"[0-9A-Fa-f]+\Z")
waitress.receiver.CHUNK_EXT_RE = re.compile(waitress.receiver.CHUNK_EXT_RE.pattern.removesuffix(b"$") + rb"\Z")


class NoRoom(Error):  # type: ignore[misc]
    """A long body goes by a file, and the folder for temporary files is full."""

    code = 503
    reason = "Service Unavailable"


class _Nowhere:
    """Where a body goes that nobody will read."""

    def __len__(self) -> int:
        return 0

    def append(self, data: bytes) -> None:
        """Let go of it."""

    def close(self) -> None:
        """Nothing is open."""


class Parser(waitress.parser.HTTPRequestParser):  # type: ignore[misc]
    """A request as it comes in."""

    body_rcv: Any
    completed: bool
    headers: dict[str, str]

    def parse_header(self, header_plus: bytes) -> None:
        """The request line and the headers. Raises Waitress's ParsingError."""
        if _FOLDED.search(header_plus) is not None:
            _refuse("A header has one line")
        try:
            super().parse_header(header_plus)
        except ValueError:
            # Python says so of an address with half a pair of brackets, and of a number with thousands of digits.
            _refuse("Bad address or Content-Length")
        if self.version not in ("1.0", "1.1"):
            _refuse("HTTP/1.0 and HTTP/1.1 are spoken here")
        codings = [coding.strip(b" \t").lower() for coding in _CODING.findall(header_plus)]
        if codings and (codings != [b"chunked"] or self.version != "1.1"):
            _refuse("Transfer-Encoding is `chunked`, once, and in HTTP/1.1")
        if codings and "CONTENT_LENGTH" in self.headers:
            _refuse("Content-Length and Transfer-Encoding exclude each other")
        # Whoever reads the address in the line, and whoever reads Host, means the same one.
        if self.proxy_netloc and self.proxy_netloc != self.headers.get("HOST"):
            _refuse("The address in the request line is not that of Host")

    def received(self, data: bytes) -> int:
        """Take in bytes; returns how many."""
        try:
            taken = int(super().received(data))
        except OSError as error:
            self.error = NoRoom(f"the body can't be kept: {error.strerror}")
            if self.chunked:
                self.completed = True
                return len(data)
            # The rest is read all the same: who still sends would not see the answer.
            self.body_rcv.getbuf().close()
            self.body_rcv.buf = _Nowhere()
            taken = int(super().received(data))
        if self.chunked and not self.completed:
            control = len(self.body_rcv.control_line) + len(self.body_rcv.trailer)
            if control > _CONTROL_BYTES_MAX:
                self.error = BadRequest(f"more than {_CONTROL_BYTES_MAX} bytes that are no chunk")
                self.completed = True
        return taken


def _refuse(why: str) -> None:
    raise waitress.parser.ParsingError(why) from None
