"""Sanitize foreign text for a terminal: a job must not move the cursor, set the window title or hide text.

Pure. Escape sequences and control characters are removed; newline and tab stay. A carriage return, with which progress
bars rewrite a line, becomes a newline. Invisible characters are removed too: they could make one name look like
another, or hide text in it. In the output of jobs the two joiners stay, which Persian, Indic scripts and
emoji need.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from zsched.model.limits import CONTROL_CHARS_MAX

# ECMA-48: CSI with its parameters, strings (OSC, DCS, SOS, PM, APC) up to their end, other escapes of two or three.
_SEQUENCE: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-Z\\^-~]"
)
# An incomplete sequence at the end of a chunk.
_BEGUN: Final = re.compile(
    r"(?:(?:\x1b\[|\x9b)[0-?]*[ -/]*"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*\x1b?"
    r"|\x1b[ -/]*"
    r"|(?<!\r)\r+)\Z"
)
_RETURN: Final = re.compile(r"\r+\n?")
# Controls but for newline and tab, and what is not drawn: the general categories Cf, Zl and Zp of Unicode 15.1 but for
# marks that stand before a number (test_command_words.py compares), and five letters that are blank.
_UNSEEN: Final = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064"
    r"\u2066-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0001\U000e0020-\U000e007f"
)
_CONTROL: Final = re.compile(rf"[{_UNSEEN}\u200c\u200d]")
_CONTROL_OF_OUTPUT: Final = re.compile(rf"[{_UNSEEN}]")


def clean(text: str) -> str:
    """Remove escape sequences, control characters and invisible characters: for names, labels and messages."""
    return _CONTROL.sub("", _without_sequences(text))


def _without_sequences(text: str) -> str:
    return _RETURN.sub("\n", _SEQUENCE.sub("", text))


def line(text: str) -> str:
    """Sanitize a text and put it on one line, for tables."""
    return " ".join(clean(text).split())


class Cleaner:
    """Sanitizes a stream of bytes chunk by chunk. A sequence that is split between two chunks is joined first."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._begun = ""

    def feed(self, data: bytes, end: bool = False) -> str:
        """The text of the next chunk. With `end` nothing is kept for the next one."""
        text = self._begun + self._decoder.decode(data, end)
        begun = None if end else _BEGUN.search(text)
        self._begun = ""
        if begun is not None and len(begun[0]) <= CONTROL_CHARS_MAX:
            self._begun = begun[0]
            text = text[: begun.start()]
        return _CONTROL_OF_OUTPUT.sub("", _without_sequences(text))
