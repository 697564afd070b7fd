"""Whether a turn is stored whose COMMIT was not confirmed: the session was lost, or the server has warned."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from zsched.model.limits import PG_RESOLVE_MS, PG_RESOLVE_PAUSE_MS
from zsched.store.contract import StoreError, StoreUnsure
from zsched.store.postgres.session import Session

# Waits for the lost session, which holds the lock on this row until its transaction has ended.
_FIND: Final = "SELECT epoch.epoch, turn.mark FROM epoch, turn FOR NO KEY UPDATE OF turn FOR SHARE OF epoch"
# A commit that is confirmed confirms all earlier ones, also those that a replica had not confirmed.
_CONFIRM: Final = "UPDATE turn SET mark = mark"


def resolve(connect: Callable[[], Session], mark: str, epoch: int | None, why: str) -> None:
    """Return if the turn with the mark is stored, and confirmed as any other.

    Raises StoreError if it is not stored, StoreUnsure if neither can be found out in PG_RESOLVE_MS, or since another
    scheduler has taken over.
    """
    deadline = time.monotonic() + PG_RESOLVE_MS / 1000
    while True:
        try:
            with closing(connect()) as session:
                found, stored = _find(session)
                if found == mark and _confirm(session):
                    return
        except StoreError as error:
            problem = str(error)
        else:
            if epoch is not None and stored != epoch:
                # Not StoreDeposed, which says that nothing of the turn is stored.
                raise StoreUnsure(f"it is unknown whether the turn is stored ({why}): another scheduler has taken over")
            if found != mark:
                raise StoreError(f"the turn is not stored ({why})")
            problem = "; ".join(session.warnings)
        if time.monotonic() > deadline:
            raise StoreUnsure(f"it is unknown whether the turn is stored ({why}), and it can't be found out: {problem}")
        time.sleep(PG_RESOLVE_PAUSE_MS / 1000)


def _find(session: Session) -> tuple[str, int]:
    """The mark of the last turn that is stored, and the epoch. Its rows stay locked."""
    session.post("BEGIN")
    call = session.post(_FIND)
    session.finish()
    ((epoch, mark),) = session.rows(call)
    return mark, epoch


def _confirm(session: Session) -> bool:
    """Whether a commit is confirmed without a warning."""
    session.post(_CONFIRM)
    session.post("COMMIT")
    session.finish()
    return not session.warnings
