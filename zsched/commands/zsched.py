"""zsched: run shell commands on many hosts.

Usage:
  zsched [options] [<command> [<argument>...]]

Commands:
  demo     Start a scheduler and two workers for a moment, run some jobs, show what became of them.
  version  Show the version.

Options:
  -h, --help  Show this. `zsched <command> --help` shows a command's own page.
  --version   Show the version.

The scheduler is `zsched-scheduler`, a worker `zsched-worker`; in a checkout, bin/scheduler and bin/worker.

Exit codes: 0 done; 1 the operation failed; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import Final

from zsched.commands import options

EXIT_INTERRUPTED: Final = 130

# Each is a module of this package with main(argv) -> exit code, imported only when it is asked for.
COMMANDS: Final = ("demo", "version")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    found = options.parse(__doc__, sys.argv[1:] if argv is None else argv)
    command, arguments = found["<command>"], found["<argument>"]
    if command is None:
        options.fail(__doc__, "which command? --help lists them all")
    if command not in COMMANDS:
        near = difflib.get_close_matches(str(command), COMMANDS, n=1)
        options.fail(__doc__, f"no command {command}; " + (f"did you mean {near[0]}?" if near else "--help lists them"))
    assert isinstance(arguments, list)
    module = importlib.import_module(f"zsched.commands.{command}")
    try:
        code: int = module.main(arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


if __name__ == "__main__":
    sys.exit(main())
