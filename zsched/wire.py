"""A scheduler's REST on the wire, over the standard library's HTTP: one request and its answer, the token, connections.

The lower half of the client (client.py), which says what is asked, and how often. Threads may share one Wire.
"""

from __future__ import annotations

import json
import os
import re
import select
from typing import TYPE_CHECKING, Any, Final, NamedTuple

# http.client takes longer to import than all the rest, and a command line that is wrong needs none.
if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPMessage, HTTPResponse

URL_DEFAULT: Final = "http://localhost:8080"

# The key of a submit, in characters.
KEY_CHARS_MAX: Final = 255

# A file of a token is read so far; a longer one is refused.
TOKEN_BYTES_MAX: Final = 4096

# A header of RFC 8288, as the scheduler writes it.
_NEXT: Final = re.compile(r'<(/[^<>]*)>; rel="next"')


class ClientError(Exception):
    """The scheduler could not be asked, or said no. The text is one sentence for a person."""


class Unreachable(ClientError):
    """No scheduler answers there."""


class Refused(ClientError):
    """The scheduler said no: `status` is HTTP's, `code` a word that stays the same, the text the scheduler's own."""

    def __init__(self, status: int, code: str, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class NotFound(Refused):
    """There is no such job, run or worker."""


class Answer(NamedTuple):
    """A 2xx answer."""

    headers: HTTPMessage
    body: bytes

    @property
    def following(self) -> str | None:
        """The path of the next page, None after the last one."""
        found = _NEXT.search(self.headers.get("Link", ""))
        return found and found[1]

    def json(self) -> Any:
        """The value in the body. Raises Unreachable: a zsched scheduler would have sent one."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise Unreachable("what answers there is no zsched scheduler: it sends no JSON") from None


class Wire:
    """One scheduler, as it is reached. `met`: whether anybody has ever listened there."""

    def __init__(self, url: str | None, token: str | None) -> None:
        """What is not given comes from the environment, as zsched.Client says. Raises ClientError."""
        from urllib.parse import urlsplit

        self.url = (url or os.environ.get("ZSCHED_URL") or URL_DEFAULT).rstrip("/")
        self._token = own_token() if token is None else _sound(token, "the argument token")
        try:
            parts = urlsplit(self.url)
            self._secure, self._host, self._port = parts.scheme == "https", parts.hostname or "", parts.port
        except ValueError:
            raise ClientError(f"{self.url!r} is no URL; write it like {URL_DEFAULT}") from None
        if parts.scheme not in ("http", "https") or not self._host:
            raise ClientError(f"{self.url!r} is no URL of a scheduler; write it like {URL_DEFAULT}")
        self._base = parts.path
        self.met = False
        # Each call takes a connection, and gives it back when its answer is complete.
        self._idle: list[HTTPConnection] = []

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def send(self, method: str, path: str, body: object, timeout_s: float, key: str | None) -> Answer:
        """One request and its answer, which must come in time. `key`: its Idempotency-Key.

        Raises Unreachable, NotFound, Refused. Only a read is repeated, when a kept connection ends under it.
        """
        headers = {"Accept": "*/*", "User-Agent": "zsched"}
        if key is not None:
            headers["Idempotency-Key"] = _quoted(key)
        content = None
        if body is not None:
            content = json.dumps(body, separators=(",", ":")).encode()
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        response, received = self._exchange(method, self._base + path, content, headers, timeout_s)
        if 200 <= response.status < 300:
            return Answer(response.headers, received)
        raise _refusal(response, received)

    def _exchange(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str], timeout_s: float
    ) -> tuple[HTTPResponse, bytes]:
        """Send a request and read its answer. Raises Unreachable."""
        from http.client import HTTPException

        while True:
            connection, kept = self._connection(timeout_s)
            try:
                if not kept:
                    connection.connect()
                    self.met = True
                connection.request(method, path, content, headers)
                response = connection.getresponse()
                received = response.read()
            except (OSError, HTTPException, UnicodeError) as error:
                connection.close()
                # The scheduler may close a kept connection just when it is used again. Of a write nobody knows then
                # whether it was done.
                if kept and method == "GET" and not isinstance(error, TimeoutError):
                    continue
                raise Unreachable(f"no scheduler answers at {self.url}: {_cause(error)}") from error
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)
            return response, received

    def _connection(self, timeout_s: float) -> tuple[HTTPConnection, bool]:
        """A connection, and whether it was kept from an earlier call. One that the scheduler has closed is left out."""
        from http.client import HTTPConnection, HTTPSConnection

        while self._idle:
            connection = self._idle.pop()
            if connection.sock is not None and not _readable(connection.sock.fileno()):
                connection.timeout = timeout_s
                connection.sock.settimeout(timeout_s)
                return connection, True
            connection.close()
        kind = HTTPSConnection if self._secure else HTTPConnection
        return kind(self._host, self._port, timeout=timeout_s), False


def own_token() -> str:
    """The token of whoever runs this: ZSCHED_TOKEN, else what the file ZSCHED_TOKEN_FILE has, else that of
    $XDG_CONFIG_HOME/zsched/token. Empty when there is none. Raises ClientError.
    """
    # Set to nothing it means none, whatever file there is.
    given = os.environ.get("ZSCHED_TOKEN")
    if given is not None:
        return _sound(given, "ZSCHED_TOKEN")
    named = os.environ.get("ZSCHED_TOKEN_FILE")
    path = named or _token_path()
    try:
        text = _private(path)
    except OSError as error:
        if not named and isinstance(error, FileNotFoundError | NotADirectoryError):
            return ""
        raise ClientError(f"the token in {path} can't be read: {error.strerror}") from None
    # The own one is empty while a shell makes it: `zsched token add >` that file.
    if named and not text.strip():
        raise ClientError(f"{path} is empty: write a token into it, or name another by ZSCHED_TOKEN_FILE")
    return _sound(text, path)


def _token_path() -> str:
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative one is ignored, as the XDG Base Directory Specification has it.
    base = folder if os.path.isabs(folder) else os.path.expanduser("~/.config")
    return os.path.join(base, "zsched", "token")


def _private(path: str) -> str:
    """The text of a small file that only its owner can read. Raises ClientError, OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_mode & 0o077:
            raise ClientError(f"others can read the token in {path}: chmod 600 {path}, or have a new one made")
        return os.read(descriptor, TOKEN_BYTES_MAX).decode(errors="replace")
    finally:
        os.close(descriptor)


def _sound(text: str, origin: str) -> str:
    """A token as a header can carry it. Raises ClientError, which does not show it."""
    token = text.strip()
    if not token.isascii() or not token.isprintable() or " " in token or len(token) >= TOKEN_BYTES_MAX:
        raise ClientError(f"what stands in {origin} is no token")
    return token


def _readable(fd: int) -> bool:
    """Whether something came that nobody asked for: on a kept connection only its end can."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _quoted(key: str) -> str:
    """A key as the header has it: a string of a structured field (RFC 9651). Raises ClientError."""
    if not (key.isascii() and key.isprintable() and 1 <= len(key) <= KEY_CHARS_MAX):
        raise ClientError(f"an idempotency key has 1 to {KEY_CHARS_MAX} printable ASCII characters")
    escaped = key.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def _cause(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _refusal(response: HTTPResponse, received: bytes) -> Refused:
    """The exception of an answer that is no 2xx."""
    try:
        problem = json.loads(received)
        code, detail = str(problem["code"]), str(problem["error"])
    except (ValueError, TypeError, KeyError):
        code, detail = "unknown", f"the answer is {response.status} {response.reason}; is this a zsched scheduler?"
    after = response.headers.get("Retry-After", "")
    kind = NotFound if response.status == 404 else Refused
    return kind(response.status, code, detail, float(after) if after.isdigit() else None)
