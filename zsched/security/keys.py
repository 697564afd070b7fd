"""CURVE keys, for ZeroMQ's encryption: those of the scheduler and of workers, and access files for other hosts.

A key is 32 bytes, written as 40 characters of Z85 (ZeroMQ RFC 32). A secret key proves an identity, so its file is
private (0600), and a file that others can read is refused.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zmq
from zmq.utils import z85

from zsched.host.files import PrivateFileError, read_private, write_private
from zsched.model.limits import SCHEDULERS_MAX
from zsched.security import access_file

_CHARACTERS: Final = re.escape("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#")
_KEY: Final = re.compile(f"(?:[{_CHARACTERS}]{{5}}){{8}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pair:
    """A key pair. repr() does not show the secret key."""

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Server:
    """A scheduler's worker port: its endpoint and its public key."""

    endpoint: str
    key: str


@dataclass(frozen=True, slots=True)
class Access:
    """Credentials of a remote worker: its name, the scheduler's endpoint and public key, its own key pair, and the
    other schedulers of the database.
    """

    worker: str
    endpoint: str
    server_key: str
    pair: Pair
    others: tuple[Server, ...] = ()

    @property
    def servers(self) -> tuple[Server, ...]:
        """All schedulers, in the order of the file."""
        return (Server(self.endpoint, self.server_key), *self.others)


def is_key(text: str) -> bool:
    """Whether a text is a key, public or secret."""
    return _KEY.fullmatch(text) is not None and _value(text) is not None


def new_pair() -> Pair:
    public, secret = zmq.curve_keypair()
    return Pair(public.decode(), secret.decode())


def own_pair(path: Path) -> Pair:
    """The key pair from the secret key in a file. Creates the file with a new key if there is none. Raises
    PrivateFileError.
    """
    try:
        secret = read_private(path, follow=False).strip()
    except FileNotFoundError:
        pair = new_pair()
        write_private(path, f"{pair.secret}\n")
        return pair
    return _pair(secret, path)


def keep_pair(path: Path, pair: Pair) -> bool:
    """Write the file of a pair again if it was removed. Returns whether it was. Raises PrivateFileError."""
    if path.exists():
        return False
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(path, f"{pair.secret}\n")
    return True


def read_access(path: Path) -> Access:
    """The content of an access file. Raises PrivateFileError."""
    try:
        values = access_file.parse(read_private(path))
    except FileNotFoundError:
        raise PrivateFileError(f"there is no access file {path}: make one with `zsched access new`") from None
    except ValueError as error:
        raise PrivateFileError(f"{path} {error}: make one with `zsched access new`") from None
    for name in access_file.NAMES:
        if name not in values:
            raise PrivateFileError(f"{path} has no {name}: make a new one with `zsched access new`")
    pair = _pair(values["secret_key"], path)
    endpoints, server_keys = (access_file.split(values[name]) for name in ("endpoint", "server_key"))
    if not all(map(is_key, server_keys)) or pair.public != values["public_key"]:
        raise PrivateFileError(f"the keys in {path} are damaged: make a new one with `zsched access new`")
    if not all(map(access_file.is_endpoint, endpoints)):
        raise PrivateFileError(f"invalid endpoint in {path}: use tcp://HOST:PORT, or `zsched access new`")
    if len(endpoints) > SCHEDULERS_MAX:
        raise PrivateFileError(f"too many endpoints in {path}: {len(endpoints)}; give at most {SCHEDULERS_MAX}")
    if len(server_keys) == 1:
        server_keys *= len(endpoints)
    if len(server_keys) != len(endpoints):
        raise PrivateFileError(f"invalid server_key in {path}: give one key for each endpoint, or one for all")
    servers = tuple(map(Server, endpoints, server_keys))
    return Access(values["worker"], servers[0].endpoint, servers[0].key, pair, servers[1:])


def written_access(access: Access) -> str:
    """An access file's text."""
    endpoints, server_keys = zip(*((server.endpoint, server.key) for server in access.servers), strict=True)
    if len(set(server_keys)) == 1:
        server_keys = server_keys[:1]
    return access_file.format_file(
        (access.worker, ", ".join(endpoints), ", ".join(server_keys), access.pair.public, access.pair.secret)
    )


def _value(text: str) -> bytes | None:
    """The bytes of a key. None if five characters encode more than 32 bits."""
    try:
        return z85.decode(text)
    except struct.error:
        return None


def _pair(secret: str, path: Path) -> Pair:
    if not is_key(secret):
        raise PrivateFileError(f"invalid key in {path}: delete the file, and a new key is made")
    return Pair(zmq.curve_public(secret.encode()).decode(), secret)
