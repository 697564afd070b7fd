"""A worker's credentials: its key pair, its token or access file, and how it gets the scheduler's endpoint.

Read in the agent's process only: the secret key is in no message, no environment and no command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from zsched.host.files import PrivateFileError, read_private
from zsched.security import endpoint
from zsched.security.keys import own_pair, read_access
from zsched.worker.agent.enrol import EnrolRefusedError, KeyRefusedError, Target, enrol
from zsched.worker.messages import Hello

# In the state directory, made at the first start.
_KEY_FILE: Final = "curve.key"


class Credentials:
    """The key pair comes from the access file if there is one, else from the state directory."""

    def __init__(self, hello: Hello) -> None:
        """Read the keys, and make this worker's own pair if it has none. Raises PrivateFileError."""
        self._hello = hello
        self._access = read_access(Path(hello.access)) if hello.access else None
        self._token = read_private(Path(hello.token_file)).strip() if hello.token_file else ""
        self._key_file = Path(hello.state_dir) / _KEY_FILE
        if self._access is None:
            self.pair = own_pair(self._key_file)
            return
        if self._access.worker != hello.worker:
            raise PrivateFileError(
                f"{hello.access} is for a worker named {self._access.worker}, not {hello.worker}: leave out -id"
            )
        self.pair = self._access.pair

    @property
    def scheduler(self) -> str:
        """The scheduler's address, for log lines."""
        scheduler = self._hello.scheduler
        if self._access is not None:
            return scheduler or self._access.endpoint
        return endpoint.parse(scheduler).url

    def target(self) -> Target:
        """The endpoint to connect to. Without an access file the scheduler's REST is asked. Raises EnrolError."""
        scheduler = self._hello.scheduler
        if self._access is None:
            try:
                return enrol(scheduler, self._hello.worker, self.pair.public, self._token)
            except KeyRefusedError as error:
                raise EnrolRefusedError(f"{error}: delete {self._key_file} to enrol with a new key") from error
        address = scheduler if scheduler.startswith("tcp:") else self._access.endpoint
        return Target(address, self._access.server_key)
