"""Check what a job executes: its arguments, folder, umask, input and variables. Raises SpecError. Pure.

What no host can start is refused at the submit, and not by each worker.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from zsched.model.faults import SpecError
from zsched.model.limits import (
    ARGV_BYTES_MAX,
    ARGV_SHOWN_CHARS_MAX,
    ARGV_WORDS_MAX,
    ENV_BYTES_MAX,
    ENV_NAMES_MAX,
    PATH_BYTES_MAX,
    PATH_PART_BYTES_MAX,
    SECRET_BYTES_MIN,
    SECRETS_MAX,
    STDIN_BYTES_MAX,
)
from zsched.model.names import VARIABLE_NAME

_UMASK: Final = re.compile("0?[0-7]{3}")
_NUL: Final = "a NUL character can't be stored or run"


def check_argv(argv: Sequence[str]) -> None:
    """Check the program and the arguments of a job without a shell."""
    if not argv or not argv[0]:
        raise SpecError("argv", "at least a program: its name or path is the first item")
    if len(argv) > ARGV_WORDS_MAX:
        raise SpecError("argv", f"at most {ARGV_WORDS_MAX} items, not {len(argv)}: pass the others in stdin or a file")
    for place, word in enumerate(argv):
        if "\0" in word:
            raise SpecError(f"argv/{place}", _NUL)
    if (size := sum(len(word.encode()) + 1 for word in argv)) > ARGV_BYTES_MAX:
        raise SpecError("argv", f"at most {ARGV_BYTES_MAX} bytes in all, not {size}: pass the rest in stdin or a file")


def argv_command(argv: Sequence[str]) -> str:
    """The command line that stands for arguments in lists and messages. It is cut, and never executed."""
    line = shlex.join(argv)
    return line if len(line) <= ARGV_SHOWN_CHARS_MAX else line[: ARGV_SHOWN_CHARS_MAX - 1] + "…"


def check_folder(field: str, path: str | None) -> None:
    """Check the path of a job's folder."""
    if path is None:
        return
    if not path.startswith("/"):
        raise SpecError(field, "an absolute path: begin it with /")
    if "\0" in path:
        raise SpecError(field, _NUL)
    if (size := len(path.encode())) > PATH_BYTES_MAX:
        raise SpecError(field, f"at most {PATH_BYTES_MAX} bytes, not {size}")
    if any(len(part.encode()) > PATH_PART_BYTES_MAX for part in path.split("/")):
        raise SpecError(field, f"at most {PATH_PART_BYTES_MAX} bytes between two slashes")


def check_umask(field: str, umask: str | None) -> None:
    """Check the mask of new files' permissions."""
    if umask is not None and not _UMASK.fullmatch(umask):
        raise SpecError(field, "octal digits from 000 to 777, such as 022")


def check_stdin(stdin: str | None) -> None:
    """Check the input of a job."""
    if stdin is None:
        return
    if "\0" in stdin:
        raise SpecError("stdin", _NUL)
    if (size := len(stdin.encode())) > STDIN_BYTES_MAX:
        raise SpecError("stdin", f"at most {STDIN_BYTES_MAX} bytes, not {size}: pass the rest in a file")


def check_variables(env: Mapping[str, str], secret_env: Mapping[str, str]) -> None:
    """Check environment variables. Raises SpecError, whose sentence shows no value."""
    for kind, given, most in (("env", env, ENV_NAMES_MAX), ("secret_env", secret_env, SECRETS_MAX)):
        if len(given) > most:
            raise SpecError(kind, f"at most {most} variables, not {len(given)}")
        for name, value in given.items():
            # Escaped as a step of a JSON pointer (RFC 6901).
            where = f"{kind}/{name.replace('~', '~0').replace('/', '~1')}"
            if not VARIABLE_NAME.fullmatch(name):
                raise SpecError(where, "a variable's name: letters, digits and _, no digit first")
            if name.startswith("ZSCHED_"):
                raise SpecError(where, "names that begin with ZSCHED_ are zsched's own")
            if "\0" in value:
                raise SpecError(where, "no variable can have a NUL")
            if kind == "secret_env" and name in env:
                raise SpecError(where, "it stands in env too")
            if kind == "secret_env" and len(value.encode()) < SECRET_BYTES_MIN:
                raise SpecError(
                    where, f"at least {SECRET_BYTES_MIN} bytes: shorter ones can't be distinguished from other output"
                )
    size = sum(len(name) + len(value.encode()) + 2 for name, value in (*env.items(), *secret_env.items()))
    if size > ENV_BYTES_MAX:
        raise SpecError("secret_env" if secret_env else "env", f"at most {ENV_BYTES_MAX} bytes in all, not {size}")
