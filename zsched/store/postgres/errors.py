"""PostgreSQL's errors as the store's, by their SQLSTATE (appendix A of PostgreSQL's manual)."""

from __future__ import annotations

from typing import Final

from psycopg.pq import DiagnosticField
from psycopg.pq.abc import PGresult

from zsched.store.contract import StoreBusy, StoreConstraint, StoreCorrupt, StoreError, StoreFull

_BY_STATE: Final[dict[str, type[StoreError]]] = {
    "40001": StoreBusy,  # serialization_failure
    "40P01": StoreBusy,  # deadlock_detected
    "53100": StoreFull,  # disk_full
    "55P03": StoreBusy,  # lock_not_available
    "57014": StoreBusy,  # query_canceled: the timeout of a statement
    "XX001": StoreCorrupt,  # data_corrupted
    "XX002": StoreCorrupt,  # index_corrupted
}
# By the first two characters: a value that its column refuses, and a broken constraint.
_BY_CLASS: Final[dict[str, type[StoreError]]] = {"22": StoreConstraint, "23": StoreConstraint}

# Errors after which only a new session helps: the server ends this one, became a standby, or forgot our statements.
_ENDING: Final = frozenset({"25006", "25P03", "57P01", "57P02", "57P03", "57P05", "26000", "0A000"})


def store_error(result: PGresult) -> StoreError:
    """The StoreError that stands for an error of PostgreSQL."""
    state = field(result, DiagnosticField.SQLSTATE)
    message = field(result, DiagnosticField.MESSAGE_PRIMARY) or result.error_message.decode(errors="replace").strip()
    kind = _BY_STATE.get(state) or _BY_CLASS.get(state[:2], StoreError)
    return kind(f"PostgreSQL: {message} ({state})")


def ends_session(result: PGresult) -> bool:
    """Whether the session of an error can't be used any more."""
    return field(result, DiagnosticField.SQLSTATE) in _ENDING


def field(result: PGresult, which: DiagnosticField) -> str:
    return (result.error_field(which) or b"").decode(errors="replace")
