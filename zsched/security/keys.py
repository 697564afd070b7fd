"""Keys of CURVE, ZeroMQ's encryption: the scheduler's, the workers', and the file that brings one to another host.

A key is 32 bytes, written as 40 characters of Z85 (ZeroMQ RFC 32). Whoever has a secret key is who it says: such a file
is its owner's alone (0600), and one that others can read is refused.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zmq
from zmq.utils import z85

from zsched.host import files
from zsched.model.limits import ACCESS_FILE_BYTES_MAX
from zsched.security import access_file

_CHARACTERS: Final = re.escape("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#")
_KEY: Final = re.compile(f"(?:[{_CHARACTERS}]{{5}}){{8}}", re.ASCII)


class KeyFileError(Exception):
    """A file of keys can't be used. The sentence names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A public key and its secret one, which no representation shows."""

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Access:
    """Credentials of a remote worker: its name, the scheduler's endpoint and public key, its own key pair."""

    worker: str
    endpoint: str
    server_key: str
    pair: Pair


def is_key(text: str) -> bool:
    """Whether that is a key, public or secret."""
    return _KEY.fullmatch(text) is not None and _value(text) is not None


def new_pair() -> Pair:
    public, secret = zmq.curve_keypair()
    return Pair(public.decode(), secret.decode())


def own_pair(path: Path) -> Pair:
    """The pair whose secret key is in a file; made with it when there is none. Raises KeyFileError."""
    try:
        secret = read_private(path, follow=False).strip()
    except FileNotFoundError:
        pair = new_pair()
        write_private(path, f"{pair.secret}\n")
        return pair
    return _pair(secret, path)


def keep_pair(path: Path, pair: Pair) -> bool:
    """Write a pair's file again if it was removed; returns whether it was. Raises KeyFileError."""
    if path.exists():
        return False
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(path, f"{pair.secret}\n")
    return True


def read_access(path: Path) -> Access:
    """What stands in an access file. Raises KeyFileError."""
    try:
        found = access_file.parse(read_private(path))
    except FileNotFoundError:
        raise KeyFileError(f"there is no access file {path}: make one with `zsched access new`") from None
    except ValueError as error:
        raise KeyFileError(f"{path} {error}: make one with `zsched access new`") from None
    for name in access_file.NAMES:
        if name not in found:
            raise KeyFileError(f"{path} has no {name}: make it anew with `zsched access new`")
    pair = _pair(found["secret_key"], path)
    if not is_key(found["server_key"]) or pair.public != found["public_key"]:
        raise KeyFileError(f"the keys in {path} are damaged: make it anew with `zsched access new`")
    if not access_file.is_endpoint(found["endpoint"]):
        raise KeyFileError(f"the endpoint in {path} is no tcp://HOST:PORT: make it anew with `zsched access new`")
    return Access(found["worker"], found["endpoint"], found["server_key"], pair)


def written_access(access: Access) -> str:
    """An access file's text."""
    return access_file.written(
        (access.worker, access.endpoint, access.server_key, access.pair.public, access.pair.secret)
    )


def _value(text: str) -> bytes | None:
    """A key's bytes; None when five of its characters say more than 32 bits do."""
    try:
        return z85.decode(text)
    except struct.error:
        return None


def _pair(secret: str, path: Path) -> Pair:
    if not is_key(secret):
        raise KeyFileError(f"what stands in {path} is no key: delete it, and a new one is made")
    return Pair(zmq.curve_public(secret.encode()).decode(), secret)


def read_private(path: Path, *, follow: bool = True) -> str:
    """The text of a file that only its owner, we or root, can read. Raises FileNotFoundError, KeyFileError.

    `follow`: the path may be a link, though not one that another user made where everybody may write.
    """
    try:
        if follow:
            files.resolve(path)
        # Opened by its name: what is found in /dev/fd has no other path.
        # Opening another user's named pipe must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise KeyFileError(f"others can read the keys in {path}: chmod 600 {path}, or make new ones")
            if found.st_uid not in (os.geteuid(), 0):
                raise KeyFileError(f"{path} belongs to user {found.st_uid}: it must be ours or root's")
            os.set_blocking(descriptor, True)
            return file.read(ACCESS_FILE_BYTES_MAX).decode("ascii")
    except FileNotFoundError:
        raise
    except files.InsecureError as error:
        raise KeyFileError(str(error)) from None
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise KeyFileError(f"insecure key file {path}: it is a link; put the file itself there") from None
        raise KeyFileError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} is no file of keys") from None


def write_private(path: Path, text: str) -> None:
    """Make a file for its owner alone, whole or not at all. Raises KeyFileError."""
    try:
        files.write_private(path, text)
    except OSError as error:
        raise KeyFileError(f"{path} can't be written: {error.strerror}") from None
