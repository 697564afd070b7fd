"""The error of an invalid job. Pure."""

from __future__ import annotations


class SpecError(Exception):
    """An invalid job. `field` is the name of the invalid field, empty for the job as a whole."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field
        self.detail = detail
