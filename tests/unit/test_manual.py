"""Manual pages on a terminal: they fit its width, and no word of them is lost."""

from __future__ import annotations

import os
import pty
import struct
import sys
from fcntl import ioctl
from importlib import import_module
from termios import TIOCSWINSZ

import pytest

from zsched.commands import options
from zsched.commands.manual import fitted
from zsched.commands.zsched import COMMANDS

PAGES = {
    name: str(import_module(f"zsched.commands.{name}").__doc__).strip()
    for name in (*COMMANDS, "zsched", "scheduler", "worker")
}


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_narrow_terminal(name: str) -> None:
    page = PAGES[name]
    narrow = fitted(page, 80)
    assert narrow.split() == page.split()
    assert max(map(len, narrow.splitlines())) <= 80
    assert fitted(page, 40).split() == page.split()
    assert fitted(page, 120) == page


def test_descriptions_usage_and_paragraphs_keep_their_indentation() -> None:
    lines = fitted(PAGES["edit"], 60).splitlines()
    place = lines.index("  --kill-grace=DURATION")
    assert lines[place + 1 : place + 3] == [
        "                      Time between SIGTERM and SIGKILL when",
        "                      the job is stopped.",
    ]
    assert "  -h, --help          Show this." in lines
    usage = fitted(PAGES["submit"], 60).partition("Usage:\n")[2].splitlines()
    assert usage[:3] == [
        "  zsched submit [--tag=TAG]... [--limit=LIMIT]...",
        "      [--label=LABEL]... [--env=VARIABLE]...",
        "      [--secret-env=VARIABLE]... [--put=FILE]...",
    ]


def test_help_on_a_terminal_has_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    leader, follower = pty.openpty()
    ioctl(follower, TIOCSWINSZ, struct.pack("HHHH", 24, 70, 0, 0))
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "__stdout__", terminal)
        with pytest.raises(SystemExit):
            options.parse(PAGES["hold"], ["--help"])
    shown = os.read(leader, 65_536).decode()
    os.close(leader)
    assert shown.split() == PAGES["hold"].split()
    assert max(map(len, shown.splitlines())) <= 70
