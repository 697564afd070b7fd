"""The words that execute a job: its command by the shell, or its arguments, in its folder. Pure.

A folder is entered by a shell in front of the job, as the job's user: only that user's rights count, and a folder on a
dead network disk blocks this one process. Where it can't enter the folder, it writes a line to descriptor 3, which the
job does not get: `missing`, `denied` or `file`. For a hint, a second line names the folder where the job runs instead.
"""

from __future__ import annotations

from typing import Final

from zsched.protocol import RunOrder

# The descriptor to which the shell in front of a job reports.
REPORT_FD: Final = 3

# `--`: a command that begins with a sign is not an option of the shell.
_SHELL: Final = ("/bin/sh", "-c", "--")
# In these texts a job's folder, command and arguments are parameters of the shell, never part of the text.
_HOME: Final = 'cd -- "${HOME:-/}" 2>/dev/null || cd /'
_AT_HOME: Final = ("/bin/sh", "-c", f'{_HOME}; exec /bin/sh -c -- "$1"', "sh")
# Folder, `must` or `may`, and whether the user's home folder is the other choice. Below a folder that the user may not
# enter, nothing seems to exist. The subshell keeps our variable out of the job's environment.
_PREPARE: Final = f"""
if [ -n "$1" ] && cd -- "$1" 2>/dev/null; then
    export PWD
elif [ -n "$1" ]; then
    (
        part=$1
        until [ -e "$part" ]; do part=${{part%/*}}; part=${{part:-/}}; done
        if [ -d "$part" ] && ! [ -x "$part" ]; then echo denied
        elif [ "$part" != "$1" ]; then echo missing
        elif [ -d "$part" ]; then echo denied
        else echo file
        fi
    ) >&3
    if [ "$2" = must ]; then exit 1; fi
    if [ -n "$3" ]; then {_HOME}; fi
    pwd >&3
elif [ -n "$3" ]; then
    {_HOME}
fi
shift 3
exec "$@" 3>&-
"""


def reports(order: RunOrder) -> bool:
    """Whether the shell in front of a job reports on its folder."""
    return (order.cwd or order.cwd_hint) is not None or order.has_scratch


def words(order: RunOrder, scratch: str, *, at_home: bool) -> tuple[str, ...]:
    """The program and the arguments that execute a job. `scratch`: the path of its scratch folder, or empty. `at_home`:
    without a folder it runs in its user's home.
    """
    folder = order.cwd or scratch or order.cwd_hint
    if folder is None and order.argv is None:
        return (*(_AT_HOME if at_home else _SHELL), order.command)
    program = (*_SHELL, order.command) if order.argv is None else _arguments(order.argv, order.entry)
    need = "must" if order.cwd is not None or scratch else "may"
    return ("/bin/sh", "-c", _PREPARE, "sh", folder or "", need, "1" if at_home else "", *program)


def _arguments(argv: tuple[str, ...], entry: str | None) -> tuple[str, ...]:
    """The arguments of a job, with the entry of its task in the place of each `{}`."""
    return argv if entry is None else tuple(word.replace("{}", entry) for word in argv)


def umask(order: RunOrder) -> int | None:
    """The umask that a job asks for, or None. Raises ValueError."""
    text = order.umask or order.umask_hint
    return None if text is None else int(text, 8) & 0o777
