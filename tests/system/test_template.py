"""The commands of arrays in real shells: whatever an entry contains, it is one argument."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from zsched.client import template

ENTRIES = (
    "plain",
    "a b",
    "it's",
    '"',
    "$(echo x)",
    "`echo x`",
    "$HOME",
    "; exit 3",
    "-n",
    "*",
    "\\n\\",
    "x\ny",
    "",
    "ä  ö",
)
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def run(shell: str, command: str, entry: str) -> str:
    environ = {"PATH": os.environ["PATH"], "HOME": "/nowhere", template.VARIABLE: entry, template.INDEX: "7"}
    words = [shell, "sh"] if shell == "busybox" else [shell]
    done = subprocess.run([*words, "-c", "--", command], env=environ, capture_output=True, check=True)
    return done.stdout.decode()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["printf '[%s]' {} x{}y"], "[{0}][x{0}y]"),
        (["printf", "[%s]", "a 'b", "{} {}"], "[a 'b][{0} {0}]"),
        (["printf", "[%s]"], "[{0}]"),
        (["printf '[%s]' \"$(printf %s {})\""], "[{0}]"),
        (["(x={}; printf '[%s]' \"$x\") # done: {}"], "[{0}]"),
        (["case {} in {}) printf '[%s]' {};; esac"], "[{0}]"),
        (["sh", "-c", 'printf "[%s]" "$ZSCHED_ENTRY" {}', "sh"], None),
        (["sh", "-c", 'printf "[%s]" "$ZSCHED_ENTRY"'], "[{0}]"),
    ],
)
def test_an_entry_is_one_argument(shell: str, words: list[str], expected: str | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match=r"would be run as code|nothing says where"):
            template.for_words(words)
        return
    command = template.for_words(words)
    for entry in ENTRIES:
        assert run(shell, command, entry) == expected.format(entry)


@pytest.mark.parametrize("shell", SHELLS)
def test_several_arguments_come_out_as_they_were(shell: str) -> None:
    command = template.for_several("printf '[%s]' {2} {1}", 2)
    for first, second in zip(ENTRIES, reversed(ENTRIES), strict=True):
        assert run(shell, command, template.entry_of_several([first, second])) == f"[{second}][{first}]"
    assert run(shell, template.EACH_COMMAND, "printf '[%s]' a 'b c' | cat") == "[a][b c]"
    assert run(shell, template.for_indexes(["printf", "[%s]", "x {}"]), "") == "[x 7]"
