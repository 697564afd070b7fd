"""The begin and the end of a scheduler's epoch on its database. Called outside the loop, each in its own transaction.

An epoch is one start of a scheduler. Its number is in every frame, so that frames of an earlier start are recognised.
"""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

from zsched import __version__
from zsched.host.files import PrivateFileError, read_private
from zsched.model.access import Scope, Token
from zsched.model.limits import JUMP_MS
from zsched.scheduler.dispatcher import Dispatcher
from zsched.security import tokens
from zsched.store.contract import Store

log = logging.getLogger(__name__)


def begin_epoch(store: Store, wall_ms: int) -> int:
    """Store that a scheduler starts, and return the number of its epoch.

    If the wall clock was set back while no scheduler ran, the stored times are moved back too, or nothing would be due
    for as long.
    """
    store.begin()
    back_ms = store.latest_ms() - wall_ms
    if back_ms > JUMP_MS:
        log.warning("the wall clock shows %d ms less than when something last happened", back_ms)
        store.shift(-back_ms, wall_ms)
    epoch = store.begin_epoch(socket.gethostname(), os.getpid(), __version__, wall_ms)
    store.flush_counters(wall_ms)
    store.commit()
    return epoch


def end_epoch(store: Store, dispatcher: Dispatcher, epoch: int, wall_ms: int) -> None:
    """Store that a scheduler ends cleanly, and when it last heard each worker."""
    store.begin()
    dispatcher.store_seen()
    store.end_epoch(epoch, wall_ms)
    store.commit()


def add_admin_token(store: Store, file: Path, wall_ms: int) -> None:
    """Store the token in a file, with the scope `admin`, unless it is known. Raises PrivateFileError, StoreError."""
    shown = tokens.read(read_private(file).strip())
    if shown is None:
        raise PrivateFileError(f"invalid token in {file}: write one with `zsched token new > {file}` (umask 077)")
    store.begin()
    if store.access.token(shown.token_id) is None:
        store.access.add_token(
            Token(
                token_id=shown.token_id,
                digest=shown.digest,
                scopes=frozenset({Scope.ADMIN}),
                note=f"from {file.name}",
                created_ms=wall_ms,
                created_by="admin_token_file",
            )
        )
        store.flush_counters(wall_ms)
    store.commit()
