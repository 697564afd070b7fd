"""The parser of HTTP requests: Waitress's, with stricter rules.

If two parsers see different requests in the same bytes, one can be smuggled past the other (RFC 9112, 11.2). So an
ambiguous request is answered 400, and the bytes after it are not parsed.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import waitress.parser
import waitress.receiver
from waitress.utilities import BadRequest, Error

from zsched.api.http.received import Body, Chunks, TooManyChunksError
from zsched.api.http.upload import Upload, UploadError
from zsched.model.limits import CHUNK_CONTROL_BYTES_MAX, CHUNKS_MAX, LINES_BODY_BYTES_MAX, SMALL_BODY_BYTES_MAX

# Lines of JSON, which may be a body of POST /jobs.
NDJSON: Final = "application/x-ndjson"

_FOLDED: Final = re.compile(rb"\r\n[ \t]")
_CODING: Final = re.compile(rb"(?i)\r\ntransfer-encoding:([^\r]*)")
# A valid target of a request line: a path, a URL, or * of OPTIONS. No control characters: Python drops some of them
# from a URL.
_TARGET: Final = re.compile(r"(?i)(?:https?://[^/?]*)?(?P<path>/[^?]*)?(?:\?.*)?|\*")
_CONTROLS: Final = re.compile(r"[\x00-\x20\x7f#]")
# Other spellings of a path: a percent-encoded letter, digit, -._~ or slash (RFC 3986, 2.3), a percent sign that encodes
# nothing, and an empty segment. A proxy that refuses /tokens would let /%74okens and //tokens pass.
_ALIAS: Final = re.compile(r"(?i)%(?:2[def]|3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9ae])|%(?![0-9a-f]{2})|//")

# Waitress ends both with `$`, which also matches before a final newline; other parsers take that for the line's end.
waitress.receiver.ONLY_HEXDIG_RE = re.compile(rb"[0-9A-Fa-f]+\Z")
waitress.receiver.CHUNK_EXT_RE = re.compile(waitress.receiver.CHUNK_EXT_RE.pattern.removesuffix(b"$") + rb"\Z")


class _Bounds(NamedTuple):
    """What Waitress's parser still reads of its adjustments after the head of a request."""

    max_request_header_size: int
    max_request_body_size: int


class BusyError(Error):  # type: ignore[misc]
    """There is no room for the body of a request."""

    code = 503
    reason = "Service Unavailable"


class Parser(waitress.parser.HTTPRequestParser):  # type: ignore[misc]
    """A request while it is received."""

    adj: Any
    body_rcv: Any
    command: str
    completed: bool
    header_bytes_received: int
    empty: bool
    error: Any
    expect_continue: bool
    headers: dict[str, str]
    path: str
    request_uri: str
    content_length: int
    # Not in memory: a body that a thread reads while it comes, and whether the caller waits before it sends it.
    upload: Upload | None = None
    wants_continue: bool = False

    def parse_header(self, header_plus: bytes) -> None:
        """The request line and the headers. Raises Waitress's ParsingError."""
        if _FOLDED.search(header_plus) is not None:
            _refuse("A header has one line")
        try:
            super().parse_header(header_plus)
        except ValueError:
            # Python says so of an address with half a pair of brackets, and of a number with thousands of digits.
            _refuse("Bad address or Content-Length")
        target = _TARGET.fullmatch(self.request_uri)
        if target is None or _CONTROLS.search(self.request_uri) or _ALIAS.search(target["path"] or ""):
            _refuse("A path has one spelling: no encoded letter, digit or slash, no `//`, no control character, no `#`")
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
        if self.body_rcv is not None and self._is_upload():
            self.upload = Upload()
            self.adj = _Bounds(self.adj.max_request_header_size, LINES_BODY_BYTES_MAX + 1)
            # Only after the gate has let the caller in.
            self.wants_continue, self.expect_continue = self.expect_continue, False
        body = Body() if self.upload is None else self.upload
        if self.chunked:
            self.body_rcv = Chunks(body)
        elif self.body_rcv is not None:
            self.body_rcv.buf = body

    def _is_upload(self) -> bool:
        """Whether the body may be too large for memory."""
        media = self.headers.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        large = self.chunked or self.content_length > SMALL_BODY_BYTES_MAX
        return large and self.command == "POST" and media == NDJSON and self.path.rstrip("/") == "/jobs"

    @property
    def held_bytes(self) -> int:
        """Bytes in memory: head and body."""
        return self.header_bytes_received + self.body_bytes

    @property
    def body_bytes(self) -> int:
        """Bytes of its body in memory."""
        if self.upload is not None:
            return self.upload.held_bytes
        return 0 if self.body_rcv is None or isinstance(self.error, BusyError) else len(self.body_rcv)

    def discard_body(self) -> None:
        """Free the body. The request is answered 503, when all of it has come: a caller that is still sending would
        not see an earlier answer.
        """
        self.body_rcv.buf.discard()
        self.error = BusyError("Too many bytes of request bodies are in memory: try again later")

    def received(self, data: bytes) -> int:
        """Parse bytes. Returns how many were used."""
        try:
            taken = int(super().received(data))
        except TooManyChunksError:
            self.error = BadRequest(f"more than {CHUNKS_MAX} chunks, and one for each KiB: send larger chunks")
            self.completed = True
            taken = len(data)
        if self.chunked and not self.completed:
            control = len(self.body_rcv.control_line) + len(self.body_rcv.trailer)
            if control > CHUNK_CONTROL_BYTES_MAX:
                self.error = BadRequest(f"more than {CHUNK_CONTROL_BYTES_MAX} bytes that belong to no chunk")
                self.completed = True
        if self.completed and self.upload is not None:
            if self.error is None:
                self.upload.finish()
            else:
                self.upload.finish(UploadError(self.error.code, f"{self.error.reason}: {self.error.body}"))
                # Nothing after it is a request.
                return len(data)
        return taken


class Ahead(Parser):
    """Pipelined bytes: sent before the answer to the request before, and not parsed yet. It is never complete.

    Bounded by the size of one read: nothing more is read from a connection with a request.
    """

    def __init__(self, adjustments: Any) -> None:
        super().__init__(adjustments)
        self.data = b""

    def received(self, data: bytes) -> int:
        self.data += data
        return len(data)

    @property
    def held_bytes(self) -> int:
        return len(self.data)


def _refuse(why: str) -> None:
    raise waitress.parser.ParsingError(why) from None
