"""One output of a run: what is kept of it, with secrets redacted. Pure; the shell reads the pipes."""

from __future__ import annotations

from typing import Final

from zsched.model.limits import FRAME_FROM_WORKER_BYTES_MAX
from zsched.protocol import RunOrder
from zsched.worker.process.capture import Capture
from zsched.worker.process.redact import Redactor, patterns

# Output kept of one stream at most, whatever an order asks for: a result with both streams fits a frame.
_KEPT_BYTES_MAX: Final = FRAME_FROM_WORKER_BYTES_MAX // 2 - 64 * 1024


class CapturedOutput:
    """The captured output of one stream. Secrets are redacted before capture."""

    __slots__ = ("_redactor", "capture")

    def __init__(self, order: RunOrder) -> None:
        secrets = (order.secret_env or {}).values()
        self.capture = Capture(min(order.output_bytes_max, _KEPT_BYTES_MAX))
        self._redactor = Redactor(patterns(secrets)) if secrets else None

    def feed(self, data: bytes) -> None:
        self.capture.feed(data if self._redactor is None else self._redactor.feed(data))

    def end(self) -> None:
        """The output is complete."""
        if self._redactor is not None:
            self.capture.feed(self._redactor.end())
