"""Secrets at rest: values of a job's secret environment, sealed with AES-GCM (NIST SP 800-38D) before they are stored.

The key is a file next to the database, made when the first secret comes; a copy of the database without it shows none.
Called by the threads of REST, which seal, and by the loop, which opens what a worker is about to get. Thread-safe.

While the key is being replaced (rotation.py) the file has several, one a line: the first seals, and all open.
"""

from __future__ import annotations

import os
import threading
from base64 import b64decode, b64encode
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zsched.host.files import PrivateFileError, read_private, write_private

# Imported late: a start without secrets must not take that long.
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class Vault:
    """Seals and opens by the key in one file."""

    def __init__(self, path: Path) -> None:
        """Touches nothing yet."""
        self._path = path
        self._lock = threading.Lock()
        # As in the file; empty until they are read.
        self._ciphers: tuple[AESGCM, ...] = ()
        self._keys_read: tuple[bytes, ...] = ()

    def keep(self) -> bool:
        """Write the file again if it was removed since it was read. Returns whether it was. Raises PrivateFileError."""
        with self._lock:
            if not self._ciphers or self._path.exists():
                return False
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            write_private(self._path, _written(self._keys_read))
            return True

    def seal(self, name: str, value: str) -> str:
        """Encrypt the value of a variable for the store. Creates the key if there is none. Raises PrivateFileError."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._opened(make=True)[0].encrypt(nonce, value.encode(), name.encode())
        return b64encode(nonce + sealed).decode("ascii")

    def open(self, name: str, sealed: str) -> str:
        """Decrypt a value. Raises ValueError if no key opens it, or if it was sealed for another name."""
        from cryptography.exceptions import InvalidTag

        try:
            ciphers = self._opened(make=False)
        except PrivateFileError as error:
            raise ValueError(str(error)) from None
        for cipher in ciphers:
            # ValueError: what is stored is not base64, or too short.
            with suppress(InvalidTag, ValueError):
                kept = b64decode(sealed, validate=True)
                return cipher.decrypt(kept[:_NONCE_BYTES], kept[_NONCE_BYTES:], name.encode()).decode()
        raise ValueError(f"the key in {self._path} is not the one that {name} was sealed with")

    def reseal(self, name: str, sealed: str) -> str:
        """Seal a value again by the first key. Raises ValueError if no key opens it, PrivateFileError."""
        # First, because unreadable keys must not look like a value that no key opens.
        self._opened(make=False)
        return self.seal(name, self.open(name, sealed))

    def add_key(self) -> bool:
        """Put a new key in front of the one in the file, unless there are several already. False: there is no file.

        Raises PrivateFileError.
        """
        with self._lock:
            try:
                keys = self._keys()
            except FileNotFoundError:
                return False
            if len(keys) == 1:
                self._write((os.urandom(_KEY_BYTES), *keys))
            return True

    def drop_old_keys(self) -> None:
        """Keep the first key alone. Raises PrivateFileError."""
        with self._lock:
            self._write(self._keys()[:1])

    def _opened(self, *, make: bool) -> tuple[AESGCM, ...]:
        with self._lock:
            if not self._ciphers:
                from cryptography.hazmat.primitives.ciphers.aead import AESGCM

                try:
                    keys = self._keys()
                except FileNotFoundError:
                    if not make:
                        sentence = f"there is no key {self._path}: it belongs to the database, put it back"
                        raise PrivateFileError(sentence) from None
                    keys = (os.urandom(_KEY_BYTES),)
                    self._write(keys)
                self._ciphers, self._keys_read = tuple(map(AESGCM, keys)), keys
            return self._ciphers

    def _keys(self) -> tuple[bytes, ...]:
        """Raises FileNotFoundError, PrivateFileError."""
        lines = read_private(self._path, follow=False).split()
        try:
            keys = tuple(map(bytes.fromhex, lines))
        except ValueError:
            keys = ()
        if not keys or any(len(key) != _KEY_BYTES for key in keys):
            raise PrivateFileError(f"invalid key in {self._path}: put the right file back")
        return keys

    def _write(self, keys: tuple[bytes, ...]) -> None:
        self._ciphers = ()
        write_private(self._path, _written(keys))


def _written(keys: tuple[bytes, ...]) -> str:
    return "".join(f"{key.hex()}\n" for key in keys)
