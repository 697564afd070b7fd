"""Options of `submit` and `run` about a job's folder, umask, input and times; the caller's own are hints."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from zsched.client.submission import Fields
from zsched.commands import exits, options
from zsched.model.limits import PATH_BYTES_MAX, STDIN_BYTES_MAX


def read(arguments: Mapping[str, options.Value]) -> Fields:
    """The fields of a job. REST checks the values. Raises Failure."""
    fields: Fields = {
        "run_at": options.text(arguments, "--at"),
        "delay": options.text(arguments, "--delay"),
        "deadline": options.text(arguments, "--deadline"),
    }
    if (cwd := options.text(arguments, "--cwd")) is not None:
        base = "/" if cwd.startswith("/") else folder()
        if base is None:
            raise exits.Failure(
                f"--cwd {cwd}: your own folder is gone or has no name in UTF-8: write the whole path", exits.USAGE
            )
        fields["cwd"] = os.path.join(base, cwd)
    else:
        fields["cwd_hint"] = folder()
    if (umask := options.text(arguments, "--umask")) is not None:
        fields["umask"] = umask
    else:
        fields["umask_hint"] = own_umask()
    if arguments["--stdin"]:
        fields["stdin"] = own_stdin()
    return fields


def folder() -> str | None:
    """Our folder by the path that the shell shows, which may lead through links; None if it is gone or has no name in
    UTF-8.
    """
    shown = os.environ.get("PWD", "")
    try:
        path = shown if shown.startswith("/") and os.path.samefile(shown, ".") else os.getcwd()
    except OSError:
        try:
            path = os.getcwd()
        except OSError:
            return None
    try:
        return path if len(path.encode()) <= PATH_BYTES_MAX else None
    except UnicodeEncodeError:
        return None


def own_umask() -> str:
    """Our umask in octal."""
    mask = os.umask(0o077)
    os.umask(mask)
    return f"{mask:04o}"


def own_stdin() -> str:
    """The text on our stdin. Raises Failure for one that no job can have."""
    if sys.stdin is None:
        raise exits.Failure("stdin is closed, and --stdin is to read it", exits.USAGE)
    data = sys.stdin.buffer.read(STDIN_BYTES_MAX + 1)
    if len(data) > STDIN_BYTES_MAX:
        raise exits.Failure(f"--stdin: more than {STDIN_BYTES_MAX} bytes: pass a file's name instead", exits.USAGE)
    if b"\0" in data:
        raise exits.Failure("--stdin: a NUL character can't be stored", exits.USAGE)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise exits.Failure("--stdin: the input is not UTF-8", exits.USAGE) from None
