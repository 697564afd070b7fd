"""`{}` in the command of an array: replaced where the shell takes an expansion for one word, refused elsewhere."""

from __future__ import annotations

import pytest

from zsched.client import template

E = '"$ZSCHED_ENTRY"'


@pytest.mark.parametrize(
    ("command", "filled"),
    [
        ("convert {} {}.png", f"convert {E} {E}.png"),
        ("sort", f"sort {E}"),
        ("sort ", f"sort {E}"),
        ("make && ./go", f"make && ./go {E}"),
        ('echo "$ZSCHED_ENTRY"', 'echo "$ZSCHED_ENTRY"'),
        ("awk '{print}' {}", f"awk '{{print}}' {E}"),
        ("(cd x; ls {})", f"(cd x; ls {E})"),
        ("echo {} # don't", f"echo {E} # don't"),
        ("# don't\necho {}", f"# don't\necho {E}"),
        ("echo it\\'s {}", f"echo it\\'s {E}"),
        ('echo "it\'s" {}', f'echo "it\'s" {E}'),
        ("echo $(( (1)+(2) )) ${x} ${#x} {}", f"echo $(( (1)+(2) )) ${{x}} ${{#x}} {E}"),
        ('echo "$(basename {} .c)"', f'echo "$(basename {E} .c)"'),
        ('echo "$(echo "x" {} "y")" {}', f'echo "$(echo "x" {E} "y")" {E}'),
        ("find {} -exec rm \\{} \\;", f"find {E} -exec rm \\{{}} \\;"),
        ("cat <<X {}\nhello\nX", f"cat <<X {E}\nhello\nX"),
        ("f() { echo; }; f {}", f"f() {{ echo; }}; f {E}"),
        ("case {} in a) echo {};; esac", f"case {E} in a) echo {E};; esac"),
    ],
)
def test_the_entry_replaces_each_place_of_a_line(command: str, filled: str) -> None:
    assert template.for_line(command) == filled


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("echo '{}'", "quotes"),
        ('echo "{}"', "quotes"),
        ('echo "a \\" {}"', "quotes"),
        ('echo "it\'s {}"', "quotes"),
        ('echo "$(echo a) {}"', "quotes"),
        ('echo "$(basename "{}")"', "quotes"),
        ("echo `x {}`", "backquotes"),
        ("echo ${x:-{}}", "${…}"),
        ("echo $((1+({})))", "$((…))"),
        ("cat <<X\n{}\nX", "a here-document"),
    ],
)
def test_a_place_inside_quotes_is_refused_with_the_remedy(command: str, place: str) -> None:
    with pytest.raises(
        ValueError, match=r"write it outside, where it is quoted by itself, or use \$ZSCHED_ENTRY"
    ) as error:
        template.for_line(command)
    assert str(error.value).startswith(f"{{}} stands inside {place}: ")


@pytest.mark.parametrize("command", ["sleep 1 &", "echo a;", "(ls)", "{ ls; }", "ls |", "ls\ndate", "ls # it's"])
def test_a_command_without_a_last_argument_needs_a_place(command: str) -> None:
    with pytest.raises(ValueError, match=r"nothing says where the entry of each task goes: write \{\} there"):
        template.for_line(command)


def test_words_are_quoted_around_the_entry() -> None:
    assert template.for_words(["convert", "{}", "out-{}.png"]) == f"convert {E} out-{E}.png"
    assert template.for_words(["echo", "it's {}", ""]) == f"""echo 'it'"'"'s '{E} ''"""
    assert template.for_words(["ls", "-l", "a b"]) == f"ls -l 'a b' {E}"
    assert template.for_words(["wc -c < {}"]) == f"wc -c < {E}"


@pytest.mark.parametrize("words", [["sh", "-c", "echo {}"], ["nice", "/bin/bash", "-lc", "x {}"]])
def test_an_entry_in_the_code_of_another_shell_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match='would be run as code: write "\\$ZSCHED_ENTRY" there'):
        template.for_words(words)
    assert template.for_words(["sh", "-c", 'echo "$ZSCHED_ENTRY"']) == """sh -c 'echo "$ZSCHED_ENTRY"'"""
    assert template.for_words(["grep", "-c", "{}", "x"]) == f"grep -c {E} x"


def test_arguments_without_a_shell_keep_the_place_for_the_worker() -> None:
    assert template.for_argv(["cp", "{}", "{}.bak"]) == ["cp", "{}", "{}.bak"]
    assert template.for_argv(["cat"]) == ["cat", "{}"]


def test_index_needs_a_shell() -> None:
    template.demand_no_place(["./sim"])
    with pytest.raises(ValueError, match=r"not for the index of a task, which is in \$ZSCHED_TASK"):
        template.demand_no_place(["./sim", "--seed={}"])


def test_entries_of_several_arguments_have_numbered_places() -> None:
    assert template.for_several("cp {1} {2}.bak", 2) == 'eval "set -- $ZSCHED_ENTRY"; cp "${1}" "${2}".bak'
    assert template.entry_of_several(["a b", "c"]) == "'a b' c"
    with pytest.raises(ValueError, match=r"write \{1\} to \{2\}"):
        template.for_several("cp {}", 2)
    with pytest.raises(ValueError, match=r"\{2\} stands inside quotes"):
        template.for_several("cp {1} '{2}'", 2)
