"""A worker's credentials: its key pair, its token or access file, and how it gets the scheduler's endpoint.

Read in the agent's process only: the secret key is in no message, no environment and no command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from zsched.host.files import PrivateFileError, read_private
from zsched.security import endpoint
from zsched.security.keys import Access, Server, own_pair, read_access
from zsched.worker.agent.enrol import EnrolRefusedError, KeyRefusedError, Target, enrol
from zsched.worker.messages import Hello

# In the state directory, made at the first start.
_KEY_FILE: Final = "curve.key"


class Credentials:
    """The key pair comes from the access file if there is one, else from the state directory. `schedulers`: the
    addresses of all schedulers, as log lines show them.
    """

    def __init__(self, hello: Hello) -> None:
        """Read the keys, and make this worker's own pair if it has none. Raises PrivateFileError."""
        self._hello = hello
        self._token = read_private(Path(hello.token_file)).strip() if hello.token_file else ""
        self._key_file = Path(hello.state_dir) / _KEY_FILE
        self._servers: tuple[Server, ...] = ()
        if not hello.access:
            self.pair = own_pair(self._key_file)
            self.schedulers = tuple(endpoint.parse(url).url for url in hello.schedulers or ("",))
            return
        access = read_access(Path(hello.access))
        if access.worker != hello.worker:
            raise PrivateFileError(
                f"{hello.access} is for a worker named {access.worker}, not {hello.worker}: leave out -id"
            )
        self.pair = access.pair
        self._servers = _servers(hello, access)
        self.schedulers = tuple(server.endpoint for server in self._servers)

    def index(self, url: str) -> int | None:
        """The scheduler with this URL, None if it is not in the list."""
        url = url.rstrip("/")
        return self.schedulers.index(url) if url in self.schedulers else None

    def target(self, index: int, timeout_s: float) -> Target:
        """The endpoint to connect to. Without an access file the scheduler's REST is asked. Raises EnrolError."""
        if self._servers:
            return Target(self._servers[index].endpoint, self._servers[index].key)
        url = self._hello.schedulers[index] if self._hello.schedulers else ""
        try:
            return enrol(url, self._hello.worker, self.pair.public, self._token, timeout_s=timeout_s)
        except KeyRefusedError as error:
            raise EnrolRefusedError(f"{error}: delete {self._key_file} to enrol with a new key") from error


def _servers(hello: Hello, access: Access) -> tuple[Server, ...]:
    """The worker ports to connect to. Settings with tcp:// replace the endpoints in the access file. Raises
    PrivateFileError when the key of one is unknown.
    """
    named = [url for url in hello.schedulers if url.startswith("tcp:")]
    if not named:
        return access.servers
    known = {server.endpoint: server.key for server in access.servers}
    server_keys = set(known.values())
    unknown = [url for url in named if url not in known]
    if unknown and len(server_keys) > 1:
        raise PrivateFileError(f"{hello.access} has several server keys, and none for {unknown[0]}: add it there")
    return tuple(Server(url, known.get(url, access.server_key)) for url in named)
