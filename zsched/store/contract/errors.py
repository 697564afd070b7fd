"""Errors of a store. Each sentence says what is wrong, and what to do about it where the caller can do something."""

from __future__ import annotations


class StoreError(Exception):
    """The disk or another process prevented the operation. Nothing is half done; a later retry may succeed."""


class StoreBusy(StoreError):
    """Another process held the database for longer than the busy timeout."""


class StoreFull(StoreError):
    """The disk is full. Reads still work; writes work again when there is space."""


class StoreConstraint(StoreError):
    """A statement broke a constraint of the schema: our own bug. The transaction goes on without its savepoint."""


class StoreUnsure(StoreError):
    """A sync to disk failed, or a commit was not confirmed: it is unknown what is durable. Never retry.

    A scheduler of SQLite must end and start again, one of PostgreSQL must stand by.
    """


class StoreCorrupt(StoreError):
    """The database file is damaged."""


class StoreMisplaced(StoreError):
    """The file is a backup, does not belong to its WAL, or was deleted or replaced while it was open."""


class StoreMoved(StoreError):
    """The database was moved elsewhere, or it is an unfinished copy: no scheduler may use it."""


class StoreNewer(StoreError):
    """A newer release wrote the database, and this release can't read it."""


class StoreForeign(StoreError):
    """The file is not a database of zsched."""


class StoreLoose(StoreError):
    """Another user owns the database or its folder, or other users have access to it."""


class StoreUnsupported(StoreError):
    """This installation lacks the library for the database."""


class StoreLocked(StoreError):
    """Another scheduler has this database open."""


class StoreDeposed(StoreError):
    """Another scheduler has taken over: nothing of the turn is stored, and no later turn will be."""
