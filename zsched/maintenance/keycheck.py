"""Schedulers that share a database need the same secret.key: one that has another could not open the jobs' secrets.

The database has its identity as sealed by that key. A scheduler that can't open it never takes over.
"""

from __future__ import annotations

from zsched.host.files import PrivateFileError
from zsched.security.vault import Vault
from zsched.store.contract import KEY_CHECK, Reader
from zsched.store.writer import Writer


def demand_key(reader: Reader, vault: Vault) -> None:
    """Raises PrivateFileError if secret.key is missing or another one, StoreError."""
    sealed = reader.key_check()
    if sealed is None:
        return
    try:
        vault.open(KEY_CHECK, sealed)
    except ValueError as error:
        raise PrivateFileError(
            f"{error}; copy secret.key from the data folder of another scheduler of this database"
        ) from None


def store_check(store: Writer, vault: Vault) -> None:
    """Store the sealed identity, unless it is there. Creates the key if there is none. Raises PrivateFileError,
    StoreError.
    """
    store.begin()
    if store.reads.key_check() is None:
        store.set_key_check(vault.seal(KEY_CHECK, store.identity))
    store.commit()
