"""Bounds of log lines and files."""

from __future__ import annotations

from zsched.model.limits.sizes import MIB

# Log lines that wait until stderr takes them, in bytes. Further ones are lost, and the log says how many.
LOG_LINES_BYTES_MAX = 1 * MIB

# Runs that one line of the log, or one event, names. More are counted alone.
RUNS_NAMED_MAX = 10

# How long a program that ends waits until its last log lines are written. What is left then is lost.
LOG_FLUSH_S = 1.0

# A file of settings, in bytes: ours have a page. A larger file was named by mistake and is refused.
INI_BYTES_MAX = 1 * MIB

# The name of a socket's folder, in the name of a state folder. A longer name is cut: a hash follows it.
PLACE_CHARS_MAX = 100
