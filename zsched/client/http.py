"""REST calls over the standard library's HTTP: a request and its answer, the token, kept connections.

The lower half of the client: client.py decides which calls to send, and how often. Threads may share one Wire.
endpoint.py connects, and checks the server.
"""

from __future__ import annotations

import json
import os
import re
import select
import stat
import time
from abc import ABC, abstractmethod
from typing import IO, TYPE_CHECKING, Any, Final, Literal, NamedTuple

from zsched.model.limits import (
    IDEMPOTENCY_KEY_CHARS_MAX,
    TOKEN_FILE_BYTES_MAX,
    TRY_ALIVE_S_MAX,
    TRY_CONNECT_S_MAX,
    WAIT_MS_MAX,
)
from zsched.security.endpoint import Endpoint
from zsched.security.trust import UntrustedError

# Imported late: http.client takes longer than everything else, and wrong usage does not need it.
if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPMessage, HTTPResponse


# A Link header (RFC 8288) of the scheduler.
_NEXT: Final = re.compile(r'<(/[^<>]*)>; rel="next"')

# How long the scheduler is asked to hold an answer until there is output, or a job has ended.
HOLD_S: Final = WAIT_MS_MAX / 1000

# The pause between two polls of a job: the first, the longest, and the factor from one to the next.
LOOK_S_MIN: Final = 0.05
LOOK_S_MAX: Final = 1.0
LOOK_FACTOR: Final = 1.5

# How long calls wait for a scheduler that restarts.
PATIENCE_S: Final = 60.0


# Calls by POST that do no harm when they are done twice.
REPEATABLE: Final = frozenset({"/jobs/wait", "/jobs/bulk"})

# The code of a refusal that no scheduler wrote.
UNKNOWN: Final = "unknown"

Stream = Literal["stdout", "stderr"]
# An object of REST's JSON.
View = dict[str, Any]


class ClientError(Exception):
    """A call failed, or the scheduler refused it. The message is one sentence for a person."""


class Unreachable(ClientError):
    """No scheduler answers at the address, or at any address of the list. `absent`: nothing listens there. `unsent`:
    the call was certainly not done. `why`: the reason alone.
    """

    def __init__(self, sentence: str, *, absent: bool = False, unsent: bool = False, why: str = "") -> None:
        super().__init__(sentence)
        self.absent = absent
        self.unsent = unsent
        self.why = why or sentence


class Untrusted(Unreachable):
    """The server that answers there is not proven to be the scheduler; nothing was sent to it."""


class Refused(ClientError):
    """The scheduler refused the call. `status` is the HTTP status, `code` a stable word. `active`: the URL of the
    scheduler that can do it, empty if unknown; a hint, never an address to call. `existing`: with the code `unique`,
    the number of the job that has the key.
    """

    def __init__(
        self, status: int, code: str, detail: str, retry_after_s: float | None = None, active: str = ""
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s
        self.active = active
        self.existing: int | None = None
        # Where the request is wrong, as JSON pointers, and how.
        self.faults: list[tuple[str, str]] = []


class NotFound(Refused):
    """The job, run or worker does not exist."""


class Answer(NamedTuple):
    """A 2xx answer."""

    headers: HTTPMessage
    body: bytes

    @property
    def following(self) -> str | None:
        """The path of the next page, None after the last one."""
        match = _NEXT.search(self.headers.get("Link", ""))
        return match and match[1]

    def json(self) -> Any:
        """The body's JSON value. Raises Unreachable for a body that is not JSON, which no scheduler sends."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise Unreachable("the server is not a zsched scheduler: its answer is not JSON") from None


class Content(ABC):
    """A body that may be too large for memory: its media type, and its size in bytes."""

    media: str
    size: int

    @abstractmethod
    def open(self) -> IO[bytes]:
        """A file with the body, at its begin."""


class Wire:
    """The connections to one scheduler. `met`: whether a trusted server has ever listened there."""

    def __init__(self, place: Endpoint, token: str, *, alone: bool) -> None:
        """`alone`: there is no other scheduler to call, so this one may take its time."""
        self._endpoint = place
        self.url = place.url
        self._token = token
        self._alone = alone
        self.met = False
        # A call takes a connection from here and returns it when its answer is complete.
        self._idle: list[HTTPConnection] = []

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def send(self, method: str, path: str, body: object, timeout_s: float, key: str | None) -> Answer:
        """Send one request and return its answer. `key`: the Idempotency-Key. `body`: a value as JSON, or Content.

        Raises Unreachable, NotFound, Refused; TypeError or ValueError for a body that JSON can't carry. A GET is
        repeated if a kept connection was closed.
        """
        headers = {"Accept": "*/*", "User-Agent": "zsched"}
        if key is not None:
            headers["Idempotency-Key"] = _quoted(key)
        content: bytes | IO[bytes] | None = None
        if isinstance(body, Content):
            content = body.open()
            headers |= {"Content-Type": body.media, "Content-Length": str(body.size)}
        elif body is not None:
            try:
                content = json.dumps(body, separators=(",", ":")).encode()
            except (TypeError, ValueError) as error:
                raise type(error)(f"invalid body: {error}") from None
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        response, received = self._exchange(method, self._endpoint.base + path, content, headers, timeout_s)
        if 200 <= response.status < 300:
            return Answer(response.headers, received)
        raise _refusal(response, received)

    def _exchange(
        self, method: str, path: str, content: bytes | IO[bytes] | None, headers: dict[str, str], timeout_s: float
    ) -> tuple[HTTPResponse, bytes]:
        """Send a request and read its answer. Raises Unreachable."""
        from http.client import HTTPException

        while True:
            connection = kept = self._kept(timeout_s)
            try:
                if connection is None:
                    connection = self._connect(timeout_s)
                    self.met = True
                connection.request(method, path, content, headers)
                response = connection.getresponse()
                received = response.read()
            except UntrustedError as error:
                raise Untrusted(str(error), unsent=True) from error
            except (OSError, HTTPException, UnicodeError) as error:
                _close(connection)
                # The scheduler may have closed the kept connection at the same moment. A write may have been done.
                if kept is not None and method == "GET" and not isinstance(error, TimeoutError):
                    continue
                absent, why = isinstance(error, ConnectionRefusedError | FileNotFoundError), _cause(error)
                sentence = f"no scheduler answers at {self.url}: {why}"
                raise Unreachable(sentence, absent=absent, unsent=connection is None, why=why) from error
            except BaseException:
                _close(connection)
                raise
            self._idle.append(connection)
            return response, received

    def _connect(self, timeout_s: float) -> HTTPConnection:
        """A new connection. Raises OSError, UntrustedError, UnicodeError."""
        if self._alone:
            return self._endpoint.connect(timeout_s)
        from zsched.client.silence import Watched

        connection = self._endpoint.connect(min(timeout_s, TRY_CONNECT_S_MAX))
        connection.timeout = timeout_s
        connection.sock = Watched(connection.sock, timeout_s, self._alive)
        return connection

    def _alive(self) -> bool:
        """Whether the scheduler gives a sign of life: an answer of any status, over a connection of its own."""
        from http.client import HTTPException

        connection, until_s = None, time.monotonic() + TRY_ALIVE_S_MAX
        try:
            connection = self._endpoint.connect(TRY_ALIVE_S_MAX)
            connection.sock.settimeout(max(0.001, until_s - time.monotonic()))
            connection.request("GET", self._endpoint.base + "/healthz")
            connection.getresponse()
        except (OSError, HTTPException, UnicodeError, UntrustedError):
            return False
        finally:
            _close(connection)
        return True

    def _kept(self, timeout_s: float) -> HTTPConnection | None:
        """A kept connection that the scheduler has not closed, or None."""
        while self._idle:
            connection = self._idle.pop()
            if connection.sock is not None and not _readable(connection.sock.fileno()):
                connection.timeout = timeout_s
                connection.sock.settimeout(timeout_s)
                return connection
            connection.close()
        return None


def own_token() -> str:
    """The token of this user: ZSCHED_TOKEN, else from the file ZSCHED_TOKEN_FILE, else from
    $XDG_CONFIG_HOME/zsched/token. Empty without one. Raises ClientError.
    """
    # An empty variable means no token, even if there is a file.
    given = os.environ.get("ZSCHED_TOKEN")
    if given is not None:
        return check_token(given, "ZSCHED_TOKEN")
    named = os.environ.get("ZSCHED_TOKEN_FILE")
    path = named or _token_path()
    try:
        text = _private(path)
    except OSError as error:
        if not named and isinstance(error, FileNotFoundError | NotADirectoryError):
            return ""
        raise ClientError(f"the token in {path} can't be read: {error.strerror}") from None
    # The default file is empty while a shell creates it for `zsched token add > FILE`.
    if named and not text.strip():
        raise ClientError(f"{path} is empty: write a token into it, or name another by ZSCHED_TOKEN_FILE")
    return check_token(text, path)


def _token_path() -> str:
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG Base Directory Specification ignores relative paths.
    base = folder if os.path.isabs(folder) else os.path.expanduser("~/.config")
    return os.path.join(base, "zsched", "token")


def _private(path: str) -> str:
    """The text of a small regular file that only its owner can read. Raises ClientError, OSError."""
    _demand_trusted_links(path)
    # Opening a named pipe without a writer would wait.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ClientError(f"{path} is not a regular file: write the token into a file")
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise ClientError(
                f"insecure permissions on {path} (mode {mode:o}): others can read the token in it;"
                f" run chmod 600 {path}, or get a new token"
            )
        if status.st_uid not in (0, os.geteuid()):
            raise ClientError(
                f"insecure owner of {path} (user {status.st_uid}): it must be yours or root's; get a new token"
            )
        return os.read(descriptor, TOKEN_FILE_BYTES_MAX).decode(errors="replace")
    finally:
        os.close(descriptor)


def _demand_trusted_links(path: str) -> None:
    """Raises ClientError if a link of another user, in a folder where everybody may write, leads to a file; OSError."""
    # Mostly there is no link. host/files.py needs pathlib, whose import is slow for a command.
    if os.path.realpath(path) == os.path.abspath(path):
        return
    from pathlib import Path

    from zsched.host import files

    try:
        files.resolve(Path(path))
    except files.InsecureError as error:
        raise ClientError(str(error)) from None


def check_token(text: str, origin: str) -> str:
    """The token without surrounding space. Raises ClientError, which does not show it, unless a header can carry it."""
    token = text.strip()
    if not token.isascii() or not token.isprintable() or " " in token or len(token) >= TOKEN_FILE_BYTES_MAX:
        raise ClientError(f"invalid token in {origin}: use the output of `zsched token add`")
    return token


def _close(connection: HTTPConnection | None) -> None:
    if connection is not None:
        connection.close()


def _readable(fd: int) -> bool:
    """Whether there is something to read. On a kept connection that means that it was closed."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _quoted(key: str) -> str:
    """A key as a string of a structured field (RFC 9651). Raises ClientError."""
    if not (key.isascii() and key.isprintable() and 1 <= len(key) <= IDEMPOTENCY_KEY_CHARS_MAX):
        raise ClientError(f"an idempotency key has 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters")
    escaped = key.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def _cause(error: Exception) -> str:
    # Python's own timeouts have no errno.
    if isinstance(error, TimeoutError) and error.errno is None:
        return "it took too long"
    from http.client import BadStatusLine, RemoteDisconnected

    if isinstance(error, BadStatusLine) and not isinstance(error, RemoteDisconnected):
        return "the server does not speak HTTP; is this https?"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _refusal(response: HTTPResponse, received: bytes) -> Refused:
    """The exception of an answer other than 2xx."""
    active, existing, faults = "", None, []
    try:
        problem = json.loads(received)
        code, detail = str(problem["code"]), str(problem["error"])
        active, existing = str(problem.get("active", "")), problem.get("existing")
        faults = [(str(fault["pointer"]), str(fault["detail"])) for fault in problem.get("errors", ())]
    except (ValueError, TypeError, KeyError):
        code, detail = UNKNOWN, f"the answer is {response.status} {response.reason}; is this a zsched scheduler?"
    after = response.headers.get("Retry-After", "")
    kind = NotFound if response.status == 404 else Refused
    refused = kind(response.status, code, detail, float(after) if after.isdigit() else None, active)
    refused.existing = existing if isinstance(existing, int) else None
    refused.faults = faults
    return refused


def may_pass(error: Unreachable | Refused, *, met: bool) -> bool:
    """Whether a failed read may succeed later. An untrusted server may have the port of a scheduler that is
    down for a moment; without a scheduler before it, the address or the set-up is wrong.
    """
    if isinstance(error, Untrusted):
        return met
    return isinstance(error, Unreachable) or error.status in (429, 503)


def may_be_done(error: Unreachable | Refused, *, met: bool) -> bool:
    """Whether to send a failed submit again: it may have been done, or the answer has Retry-After. Where no server has
    ever listened, the address is wrong. A 429 is not repeated: the caller has to know that there is no room.
    """
    if isinstance(error, Unreachable):
        return met
    return error.status == 503 and error.retry_after_s is not None
