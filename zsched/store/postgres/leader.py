"""The lock by which schedulers choose the one that leads, and their list.

A scheduler that leads holds an advisory lock of the database, in a session of its own. A thread uses that session every
LOCK_PING_S. The server ends a session that was idle for LOCK_IDLE_MS, and with it the lock of a scheduler that stands
still or has lost its network.

The lock alone excludes nobody: a scheduler may have lost it and not know yet. What excludes an earlier scheduler is the
epoch, which a take-over raises and each turn reads (engine.py). So a lost lock ends nothing by itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from zsched.model.address import PostgresUrl
from zsched.model.limits import (
    INSTANCE_MS_MAX,
    LOCK_ANSWER_MS,
    LOCK_CONNECT_S,
    LOCK_IDLE_MS,
    LOCK_PING_S,
    LOCK_STATEMENT_MS,
)
from zsched.model.records import Instance, Role
from zsched.store.contract import StoreError
from zsched.store.postgres import dialect
from zsched.store.postgres.session import LostError, Session

log = logging.getLogger(__name__)

_DEFAULTS: Final = {
    "application_name": "zsched lock",
    "connect_timeout": LOCK_CONNECT_S,
    "tcp_user_timeout": LOCK_STATEMENT_MS,
}
# Replicas need not confirm what only says that this scheduler is there.
_SETTINGS: Final = (
    f"SET idle_session_timeout = {LOCK_IDLE_MS}",
    f"SET statement_timeout = {LOCK_STATEMENT_MS}",
    "SET synchronous_commit = off",
)
# Two numbers: one of ours, and one of the schema, because a database may have several schemas. The lock is also given
# without a schema: then the migration fails with the server's reason.
_TRY: Final = "SELECT pg_try_advisory_lock(2054382440, hashtext(coalesce(current_schema(), '')))"
_RELEASE: Final = "SELECT pg_advisory_unlock_all()"

_NOW: Final = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_PUBLISH: Final = f"""
    INSERT INTO instances (instance, role, host, pid, version, url, endpoint, public_key, started_ms, seen_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, {_NOW})
    ON CONFLICT (instance) DO UPDATE SET role = excluded.role, seen_ms = excluded.seen_ms"""  # noqa: S608  (of constants)
# One that was killed can't say that it no longer leads.
_SUCCEED: Final = "UPDATE instances SET role = 'standby' WHERE role = 'active' AND instance <> ?"
_FORGET: Final = f"DELETE FROM instances WHERE seen_ms < {_NOW} - {INSTANCE_MS_MAX}"  # noqa: S608  (of constants)
_LEAVE: Final = "DELETE FROM instances WHERE instance = ?"


class Candidate:
    """A scheduler that leads or wants to. Thread-safe."""

    def __init__(self, url: PostgresUrl) -> None:
        """Connect. Raises StoreError."""
        self._url = url
        self._own: Instance | None = None
        # Whether the lock was taken and not released, and whether the present session has it.
        self._leads = self._held = False
        # Held while the session is in use.
        self._using = threading.Lock()
        self._session: Session | None = self._connect()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._ping, name="lock", daemon=True)
        self._thread.start()

    def try_lock(self) -> bool:
        """Take the lock. False: another scheduler has it. Raises StoreError."""
        with self._using:
            self._leads = self._take()
            return self._leads

    def release(self) -> None:
        """Give the lock up, so that another scheduler can lead at once. Does nothing if it was not taken."""
        with self._using:
            if self._leads:
                self._leads = self._held = False
                try:
                    self._ask(_RELEASE)
                except StoreError:
                    # The lock ends with the session, which the pings would keep.
                    self._drop()

    def publish(self, own: Instance) -> None:
        """Let the other schedulers know of this one, from now on at each ping."""
        with self._using:
            self._own = own
            with suppress(StoreError):
                self._announce()

    def close(self) -> None:
        """End the session, and with it the lock."""
        self._ending.set()
        self._thread.join()
        with self._using:
            if self._own is not None and self._session is not None:
                with suppress(StoreError):
                    self._ask(_LEAVE, (self._own.instance,))
            self._drop()

    def _ping(self) -> None:
        while not self._ending.wait(LOCK_PING_S):
            with self._using:
                had = self._held
                try:
                    self._announce()
                    if self._leads and not self._take() and had:
                        log.warning("the lock of the active scheduler is lost: another scheduler may take over")
                except StoreError as error:
                    if had:
                        log.warning("the lock of the active scheduler is lost: %s", error)

    def _take(self) -> bool:
        # PostgreSQL counts how often a session has taken a lock.
        self._held = self._held or bool(self._ask(_TRY))
        return self._held

    def _announce(self) -> None:
        """Publish this scheduler. The session is used in any case."""
        own = self._own
        if own is None:
            self._ask("SELECT 1")
            return
        # Without the lock this scheduler may no longer lead, even if it does not know that yet.
        role = own.role if self._held else Role.STANDBY
        self._ask(
            _PUBLISH,
            (
                *(own.instance, role, own.host, own.pid, own.version),
                *(own.url, own.endpoint, own.public_key, own.started_ms),
            ),
        )
        if role is Role.ACTIVE:
            self._ask(_SUCCEED, (own.instance,))
        self._ask(_FORGET)

    def _ask(self, statement: str, parameters: Sequence[object] = ()) -> object:
        """The first value that a statement returns, None without rows. Connects if the session is lost.

        Raises StoreError, after LOCK_ANSWER_MS at the latest; then the session may have ended.
        """
        session = self._session
        if session is None:
            session = self._session = self._connect()
        call = session.post(dialect.one(statement).text, *dialect.encode(parameters))
        try:
            session.finish(LOCK_ANSWER_MS)
        except LostError:
            self._drop()
            raise
        rows = session.rows(call)
        return rows[0][0] if rows else None

    def _connect(self) -> Session:
        session = Session(self._url.conninfo, _DEFAULTS)
        try:
            for setting in _SETTINGS:
                session.post(setting)
            session.finish(LOCK_ANSWER_MS)
        except BaseException:
            session.close()
            raise
        return session

    def _drop(self) -> None:
        self._held = False
        if self._session is not None:
            self._session.close()
            self._session = None
