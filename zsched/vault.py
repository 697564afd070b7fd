"""Secrets at rest: values of a job's secret environment, sealed with AES-GCM (NIST SP 800-38D) before they are stored.

The key is a file beside the database, made when the first secret comes; a copy of the database without it shows none.
Called by the threads of REST, which seal, and by the loop, which opens what a worker is about to get. Thread-safe.
"""

from __future__ import annotations

import os
import threading
from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zsched.keys import KeyFileError, read_private, write_private

# Its import takes longer than a start without secrets should.
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
        self._cipher: AESGCM | None = None

    def seal(self, name: str, value: str) -> str:
        """The value of a variable as it may be stored. Makes the key if there is none. Raises KeyFileError."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._opened(make=True).encrypt(nonce, value.encode(), name.encode())
        return b64encode(nonce + sealed).decode("ascii")

    def open(self, name: str, sealed: str) -> str:
        """The value that was sealed under this name. Raises ValueError when this key or this name is another."""
        from cryptography.exceptions import InvalidTag

        try:
            kept = b64decode(sealed, validate=True)
            value = self._opened(make=False).decrypt(kept[:_NONCE_BYTES], kept[_NONCE_BYTES:], name.encode())
        except KeyFileError as error:
            raise ValueError(str(error)) from None
        # ValueError: what is stored is no base64, or too short.
        except (InvalidTag, ValueError):
            raise ValueError(f"the key in {self._path} is not the one that {name} was sealed with") from None
        return value.decode()

    def _opened(self, *, make: bool) -> AESGCM:
        with self._lock:
            if self._cipher is None:
                from cryptography.hazmat.primitives.ciphers.aead import AESGCM

                self._cipher = AESGCM(self._key(make))
            return self._cipher

    def _key(self, make: bool) -> bytes:
        try:
            text = read_private(self._path, follow=False).strip()
        except FileNotFoundError:
            if not make:
                raise KeyFileError(f"there is no key {self._path}: it belongs to the database, put it back") from None
            key = os.urandom(_KEY_BYTES)
            write_private(self._path, f"{key.hex()}\n")
            return key
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            raise KeyFileError(f"what stands in {self._path} is no key: put the right one back")
        return key
