"""A scheduler's REST on the wire, over the standard library's HTTP: one request and its answer, the token, connections.

The lower half of the client (client.py), which says what is asked, and how often. Threads may share one Wire. How it
connects, and to which servers, is endpoint.py's.
"""

from __future__ import annotations

import json
import os
import re
import select
import stat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from zsched.model.limits import IDEMPOTENCY_KEY_CHARS_MAX, TOKEN_FILE_BYTES_MAX, WAIT_MS_MAX
from zsched.security import endpoint
from zsched.security.endpoint import EndpointError
from zsched.security.trust import UntrustedError

# http.client takes longer to import than all the rest, and a command line that is wrong needs none.
if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPMessage, HTTPResponse

# A header of RFC 8288, as the scheduler writes it.
_NEXT: Final = re.compile(r'<(/[^<>]*)>; rel="next"')

# How long the scheduler holds an answer about what has yet to come: output, a job's end.
HOLD_S: Final = WAIT_MS_MAX / 1000

# Between two looks at a job: from the first to the last, each longer than the one before by the factor.
LOOK_S_MIN: Final = 0.05
LOOK_S_MAX: Final = 1.0
LOOK_FACTOR: Final = 1.5

# A scheduler that is started again within this time is waited for.
PATIENCE_S: Final = 60.0


class ClientError(Exception):
    """The scheduler could not be asked, or said no. The text is one sentence for a person."""


class Unreachable(ClientError):
    """No scheduler answers there. `absent`: nothing listens at the address."""

    def __init__(self, sentence: str, *, absent: bool = False) -> None:
        super().__init__(sentence)
        self.absent = absent


class Untrusted(Unreachable):
    """The server that answers there is not proven to be the scheduler; nothing was sent to it."""


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
    """One scheduler, as it is reached. `met`: whether a trusted server has ever listened there."""

    def __init__(self, url: str | None, token: str | None) -> None:
        """What is not given comes from the environment, as zsched.Client says. Raises ClientError."""
        try:
            self._endpoint = endpoint.parse(url or os.environ.get("ZSCHED_URL"))
        except EndpointError as error:
            raise ClientError(str(error)) from None
        self.url = self._endpoint.url
        self._token = own_token() if token is None else _sound(token, "the argument token")
        self.met = False
        # Each call takes a connection, and gives it back when its answer is complete.
        self._idle: list[HTTPConnection] = []

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def send(self, method: str, path: str, body: object, timeout_s: float, key: str | None) -> Answer:
        """One request and its answer, which must come in time. `key`: its Idempotency-Key.

        Raises Unreachable, NotFound, Refused; TypeError or ValueError for a body that JSON can't carry. Only a read is
        repeated, when a kept connection ends under it.
        """
        headers = {"Accept": "*/*", "User-Agent": "zsched"}
        if key is not None:
            headers["Idempotency-Key"] = _quoted(key)
        content = None
        if body is not None:
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
        self, method: str, path: str, content: bytes | None, headers: dict[str, str], timeout_s: float
    ) -> tuple[HTTPResponse, bytes]:
        """Send a request and read its answer. Raises Unreachable."""
        from http.client import HTTPException

        while True:
            connection = kept = self._kept(timeout_s)
            try:
                if connection is None:
                    connection = self._endpoint.connect(timeout_s)
                    self.met = True
                connection.request(method, path, content, headers)
                response = connection.getresponse()
                received = response.read()
            except UntrustedError as error:
                raise Untrusted(str(error)) from error
            except (OSError, HTTPException, UnicodeError) as error:
                _close(connection)
                # The scheduler may close a kept connection just when it is used again. A write may have been done
                # then.
                if kept is not None and method == "GET" and not isinstance(error, TimeoutError):
                    continue
                absent = isinstance(error, ConnectionRefusedError | FileNotFoundError)
                raise Unreachable(f"no scheduler answers at {self.url}: {_cause(error)}", absent=absent) from error
            except BaseException:
                _close(connection)
                raise
            self._idle.append(connection)
            return response, received

    def _kept(self, timeout_s: float) -> HTTPConnection | None:
        """A connection that is kept from an earlier call, if there is one that the scheduler has not closed."""
        while self._idle:
            connection = self._idle.pop()
            if connection.sock is not None and not _readable(connection.sock.fileno()):
                connection.timeout = timeout_s
                connection.sock.settimeout(timeout_s)
                return connection
            connection.close()
        return None


def own_token() -> str:
    """The caller's own token: ZSCHED_TOKEN, else what the file ZSCHED_TOKEN_FILE has, else that of
    $XDG_CONFIG_HOME/zsched/token. Empty when there is none. Raises ClientError.
    """
    # Set to an empty text it means no token, also if there is a file.
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
    # The default file is empty while a shell makes it: `zsched token add >` that file.
    if named and not text.strip():
        raise ClientError(f"{path} is empty: write a token into it, or name another by ZSCHED_TOKEN_FILE")
    return _sound(text, path)


def _token_path() -> str:
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative one is ignored, as the XDG Base Directory Specification has it.
    base = folder if os.path.isabs(folder) else os.path.expanduser("~/.config")
    return os.path.join(base, "zsched", "token")


def _private(path: str) -> str:
    """The text of a small regular file that only its owner can read. Raises ClientError, OSError."""
    _demand_no_strange_link(path)
    # Opening a named pipe without a writer would wait.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ClientError(f"{path} is not a regular file: write the token into a file")
        if found.st_mode & 0o077:
            raise ClientError(f"others can read the token in {path}: chmod 600 {path}, or have a new one made")
        if found.st_uid not in (0, os.geteuid()):
            raise ClientError(f"{path} belongs to user {found.st_uid}: it must be yours or root's; have a new one made")
        return os.read(descriptor, TOKEN_FILE_BYTES_MAX).decode(errors="replace")
    finally:
        os.close(descriptor)


def _demand_no_strange_link(path: str) -> None:
    """Raises ClientError when a link of another user, where everybody may write, leads to a file; OSError."""
    # Nearly always there is no link on the way. pathlib, which host/files.py needs, takes a command long to import.
    if os.path.realpath(path) == os.path.abspath(path):
        return
    from pathlib import Path

    from zsched.host import files

    try:
        files.resolve(Path(path))
    except files.InsecureError as error:
        raise ClientError(str(error)) from None


def _sound(text: str, origin: str) -> str:
    """A token as a header can carry it. Raises ClientError, which does not show it."""
    token = text.strip()
    if not token.isascii() or not token.isprintable() or " " in token or len(token) >= TOKEN_FILE_BYTES_MAX:
        raise ClientError(f"what stands in {origin} is no token")
    return token


def _close(connection: HTTPConnection | None) -> None:
    if connection is not None:
        connection.close()


def _readable(fd: int) -> bool:
    """Whether anything came unasked: on a kept connection that is its end."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _quoted(key: str) -> str:
    """A key as the header has it: a string of a structured field (RFC 9651). Raises ClientError."""
    if not (key.isascii() and key.isprintable() and 1 <= len(key) <= IDEMPOTENCY_KEY_CHARS_MAX):
        raise ClientError(f"an idempotency key has 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters")
    escaped = key.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def _cause(error: Exception) -> str:
    # A timeout of Python's own has no number.
    if isinstance(error, TimeoutError) and error.errno is None:
        return "it took too long"
    from http.client import BadStatusLine, RemoteDisconnected

    if isinstance(error, BadStatusLine) and not isinstance(error, RemoteDisconnected):
        return "the server does not speak HTTP; is this https?"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _refusal(response: HTTPResponse, received: bytes) -> Refused:
    """The exception of an answer other than 2xx."""
    try:
        problem = json.loads(received)
        code, detail = str(problem["code"]), str(problem["error"])
    except (ValueError, TypeError, KeyError):
        code, detail = "unknown", f"the answer is {response.status} {response.reason}; is this a zsched scheduler?"
    after = response.headers.get("Retry-After", "")
    kind = NotFound if response.status == 404 else Refused
    return kind(response.status, code, detail, float(after) if after.isdigit() else None)
