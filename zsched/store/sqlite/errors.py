"""SQLite's errors as the store's."""

from __future__ import annotations

from typing import Final, NoReturn

import apsw

from zsched.store.contract import StoreBusy, StoreConstraint, StoreCorrupt, StoreError, StoreFull, StoreUnsure

SYNC_ERRORS: Final = (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)


def raise_store_error(error: apsw.Error) -> NoReturn:
    """Raise the StoreError that stands for an error of SQLite."""
    sentence = f"SQLite: {error}"
    if isinstance(error, apsw.IOError) and is_sync_error(error):
        raise StoreUnsure(sentence) from error
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        raise StoreCorrupt(f"the database is damaged ({sentence})") from error
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        raise StoreBusy(sentence) from error
    if isinstance(error, apsw.FullError):
        raise StoreFull(sentence) from error
    if isinstance(error, apsw.ConstraintError):
        raise StoreConstraint(sentence) from error
    raise StoreError(sentence) from error


def is_sync_error(error: apsw.Error) -> bool:
    """Whether a sync to disk failed, so that it is unknown what is durable."""
    return getattr(error, "extendedresult", 0) in SYNC_ERRORS


def invalid_text() -> StoreCorrupt:
    """The error for a stored text that APSW can't decode."""
    return StoreCorrupt("the database is damaged: a stored text is not valid UTF-8")
