"""The body of a submit with the entries of an array: lines of JSON, the job first (docs/rest.md).

There may be a million, so they are in a file, and never all in memory. The file can be sent again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from typing import IO, Final

from zsched.client.http import ClientError, Content
from zsched.model.limits import ARRAY_TASKS_MAX, ENTRY_BYTES_MAX, MIB

# A smaller body is kept in memory.
_MEMORY_BYTES: Final = 1 * MIB
_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Lines(Content):
    """Such a body. `count`: its entries."""

    media = "application/x-ndjson"

    def __init__(self, job: Mapping[str, object], entries: Iterable[object]) -> None:
        """Raises ClientError for an entry that no task can have, TypeError for a value that JSON does not have, and
        OSError.
        """
        self.count = 0
        self._file = tempfile.SpooledTemporaryFile(_MEMORY_BYTES)  # noqa: SIM115  (as long as this object)
        try:
            self._file.write(_encode(job).encode() + b"\n")
            for entry in entries:
                self._file.write(self._line(entry))
                self.count += 1
            if not self.count:
                raise ClientError("each: there is no entry, so the job would have no task")
            self.size = self._file.tell()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def open(self) -> IO[bytes]:
        """The content from its begin on."""
        self._file.seek(0)
        return self._file

    def _line(self, entry: object) -> bytes:
        if self.count == ARRAY_TASKS_MAX:
            raise ClientError(f"each: at most {ARRAY_TASKS_MAX} entries; submit the others as another job")
        try:
            line = _encode(entry).encode()
        except UnicodeEncodeError:
            raise ClientError(f"each[{self.count}]: not UTF-8") from None
        except (TypeError, ValueError) as error:
            raise type(error)(f"invalid each[{self.count}]: {error}") from None
        if fault := fault_of(entry if isinstance(entry, str) else line.decode()):
            raise ClientError(f"each[{self.count}]: {fault}")
        return line + b"\n"


def fault_of(entry: str) -> str:
    """Why no task can have an entry; empty if one can."""
    if "\0" in entry:
        return "a NUL character can't be stored or run"
    if len(entry) * 4 > ENTRY_BYTES_MAX and (size := len(entry.encode(errors="replace"))) > ENTRY_BYTES_MAX:
        return f"at most {ENTRY_BYTES_MAX} bytes, not {size}: put the rest into a file"
    return ""
