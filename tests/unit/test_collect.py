"""collect.py: it reads the artifacts of a scratch folder whatever a job has put there, and empties the folder.

It runs in this process where its user does not matter. tests/system/test_files.py has other users and real jobs.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from zsched.model.limits import COLLECT_ENTRIES_MAX, FILE_PATH_BYTES_MAX, FILES_BYTES_MAX, FILES_MAX
from zsched.worker.process import collect
from zsched.worker.process.collected import Collected, read_collected

BOUNDS = {
    "files": FILES_MAX,
    "bytes": FILES_BYTES_MAX,
    "path_bytes": FILE_PATH_BYTES_MAX,
    "entries": COLLECT_ENTRIES_MAX,
    "seconds": 10,
    "remove": 60,
}
WORDS = ",".join(f"{name}={value}" for name, value in BOUNDS.items())
SECRET = "another user's secret"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def collected(folder: Path, *patterns: str, **bounds: int) -> Collected:
    """What is read of a folder."""
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        collector = collect.Collector(top, BOUNDS | bounds)
        collector.collect(list(patterns))
        with tempfile.TemporaryFile() as out:
            collector.write(out.fileno())
            out.seek(0)
            return read_collected(out.read())
    finally:
        os.close(top)


def names(folder: Path, *patterns: str, **bounds: int) -> list[str]:
    return [file.path for file in collected(folder, *patterns, **bounds).files]


def tree(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)


# --- patterns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["a.csv"], ["a.csv"]),
        (["*.csv"], ["a.csv", "b.csv"]),
        (["[ab].csv", "?.txt"], ["a.csv", "b.csv", "c.txt"]),
        (["out/*.csv"], ["out/d.csv"]),
        (["*/*.csv"], ["out/d.csv"]),
        (["**/*.csv"], ["a.csv", "b.csv", "out/d.csv", "out/deep/er/e.csv"]),
        (["out"], ["out/d.csv", "out/deep/er/e.csv"]),
        (["out/**"], ["out/d.csv", "out/deep/er/e.csv"]),
        (["out/**/er/*"], ["out/deep/er/e.csv"]),
        (["*"], ["a.csv", "b.csv", "c.txt"]),
        ([".hidden", ".h*"], [".hidden"]),
        (["b.csv", "*.csv"], ["b.csv", "a.csv"]),
    ],
)
def test_patterns_find_files_in_order(scratch: Path, patterns: list[str], found: list[str]) -> None:
    tree(scratch, "b.csv", "a.csv", "c.txt", ".hidden", "out/d.csv", "out/deep/er/e.csv")
    kept = collected(scratch, *patterns)
    assert [file.path for file in kept.files] == found
    assert [file.data.decode() for file in kept.files] == found
    assert kept.left_out == 0


def test_pattern_without_a_match_is_said(scratch: Path) -> None:
    tree(scratch, "a")
    kept = collected(scratch, "a", "result.csv", "no/such/*")
    assert [file.path for file in kept.files] == ["a"]
    assert kept.left_out == 2
    assert kept.why == 'no file matches "result.csv"; no file matches "no/such/*"'


# --- what a job may put there ----------------------------------------------------------------------------------------


def test_links_are_not_followed(scratch: Path, tmp_path: Path) -> None:
    tree(tmp_path / "other", "secret")
    (scratch / "file").symlink_to(tmp_path / "other" / "secret")
    (scratch / "folder").symlink_to(tmp_path / "other")
    (scratch / "up").symlink_to("..")
    kept = collected(scratch, "file", "folder/secret", "folder", "*/secret", "up/other/secret", "**/*")
    assert kept.files == ()
    assert '"file": not a regular file' in kept.why


def test_scratch_folder_that_is_a_link_is_not_opened(scratch: Path, tmp_path: Path) -> None:
    tree(tmp_path / "other", "secret")
    scratch.rmdir()
    scratch.symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="Not a directory"):
        collect.main(["", "", "0", "0", WORDS, str(scratch), "secret"])


def test_hard_links_are_left_out(scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(SECRET)
    os.link(tmp_path / "elsewhere", scratch / "a")
    kept = collected(scratch, "a")
    assert (kept.files, kept.left_out, kept.why) == ((), 1, '"a": it has links elsewhere')


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_what_is_not_a_file_is_not_opened(scratch: Path, kind: str) -> None:
    path = scratch / "a"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    elif os.geteuid() == 0:
        # /dev/zero: it would never end.
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    else:
        pytest.skip("only root makes devices")
    kept = collected(scratch, "*")
    assert (kept.files, kept.left_out, kept.why) == ((), 1, '"a": not a regular file')


def test_huge_sparse_file_is_not_read(scratch: Path) -> None:
    with (scratch / "a").open("wb") as file:
        file.truncate(1 << 40)
    (scratch / "b").write_text("small")
    began = time.process_time()
    kept = collected(scratch, "*")
    assert time.process_time() - began < 1
    assert [file.path for file in kept.files] == ["b"]
    assert "shared storage" in kept.why


def test_one_mib_is_kept_and_not_a_byte_more(scratch: Path) -> None:
    (scratch / "a").write_bytes(bytes(FILES_BYTES_MAX - 1))
    (scratch / "b").write_bytes(b"xx")
    (scratch / "c").write_bytes(b"x")
    kept = collected(scratch, "*")
    assert [(file.path, len(file.data)) for file in kept.files] == [("a", FILES_BYTES_MAX - 1), ("c", 1)]
    assert kept.left_out == 1


def test_number_of_artifacts_is_bounded(scratch: Path) -> None:
    tree(scratch, *(f"{number:04}" for number in range(FILES_MAX + 2)))
    kept = collected(scratch, "*")
    assert len(kept.files) == FILES_MAX
    assert kept.left_out == 2
    assert "archive" in kept.why


def test_search_among_too_many_files_ends(scratch: Path) -> None:
    tree(scratch, "first", *(f"many/{number}" for number in range(50)), "zlast")
    kept = collected(scratch, "first", "many/*", "zlast", entries=20)
    assert [file.path for file in kept.files] == ["first"]
    assert "more than 20 files" in kept.why


def test_name_without_wildcards_needs_no_search(scratch: Path) -> None:
    tree(scratch, *(f"many/{number}" for number in range(50)))
    assert names(scratch, "many/7", entries=0) == ["many/7"]


def test_search_takes_a_bounded_time(scratch: Path) -> None:
    tree(scratch, "a")
    kept = collected(scratch, "a", seconds=0)
    assert kept.files == ()
    assert "took more than 0 s" in kept.why


def test_depth_of_the_search_is_bounded(scratch: Path) -> None:
    tree(scratch, "/".join("d" * 100) + "/a", "b")
    assert names(scratch, "**/*") == ["b"]


def test_file_that_grows_while_it_is_opened_is_bounded(scratch: Path) -> None:
    """Another process of the same user appends to it."""
    (scratch / "a").write_text("begin")
    kept = run(scratch, "a", at="a", attack=f"open({str(scratch / 'a')!r}, 'ab').write(b'x' * 5_000_000)")
    assert (kept.files, kept.left_out) == ((), 1)
    assert "shared storage" in kept.why
    (scratch / "b").write_text("begin")
    kept = run(scratch, "b", at="b", attack=f"open({str(scratch / 'b')!r}, 'ab').write(b' end')")
    assert kept.files[0].data == b"begin end"


def test_names_of_any_kind_are_kept_as_they_are_or_left_out(scratch: Path) -> None:
    hostile = ["a\nb", "\x1b[2J", "<img>", "ü", "-rf", "a b", '"', "\u202e"]
    for name in hostile:
        (scratch / name).write_text("x")
    (Path(os.fsdecode(os.fsencode(scratch) + b"/\xff\xfe"))).write_text("x")
    kept = collected(scratch, "*")
    assert sorted(file.path for file in kept.files) == sorted(hostile)
    assert (kept.left_out, kept.why) == (1, '"\\udcff\\udcfe": its path is not UTF-8')
    assert collected(scratch, "-rf").files[0].path == "-rf"
    assert kept.why.isprintable()


def test_permission_bits_are_kept_without_setuid(scratch: Path) -> None:
    for name, mode in (("a", 0o4755), ("b", 0o640), ("c", 0o1777)):
        (scratch / name).write_text("x")
        (scratch / name).chmod(mode)
    assert [(file.path, file.mode) for file in collected(scratch, "*").files] == [
        ("a", 0o755),
        ("b", 0o640),
        ("c", 0o777),
    ]


def test_other_disks_are_not_entered(scratch: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    tree(scratch, "a")
    script = 'mkdir m && mount -t tmpfs none m && echo x >m/b && exec "$@"'
    words = (sys.executable, "-I", "-S", collect.__file__, "", "0", "0", WORDS, str(scratch), "**/*", "m/b")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *words], cwd=scratch, capture_output=True, timeout=20, check=True
    )
    kept = read_collected(done.stdout)
    assert [file.path for file in kept.files] == ["a"]
    # The mount is left, and all else is removed.
    assert os.listdir(scratch) == ["m"]


# --- races -----------------------------------------------------------------------------------------------------------

# Runs collect.py; just before it opens a name for the first time, an attacker acts.
RACE = """
import os, sys
sys.argv = sys.argv[1:]
at, attack, path = os.fsencode(sys.argv.pop(1)), sys.argv.pop(1), sys.argv[0]
fired = []
def hook(event, arguments):
    if event == "open" and not fired and os.fsencode(str(arguments[0])) == at:
        fired.append(event)
        exec(attack)
source = compile(open(path).read(), path, "exec")
sys.addaudithook(hook)
exec(source, {"__name__": "__main__"})
"""


def run(folder: Path, *patterns: str, at: str, attack: str) -> Collected:
    """What collect.py writes when something happens just before it opens a name."""
    words = (sys.executable, "-I", "-S", "-c", RACE, collect.__file__, at, attack)
    done = subprocess.run(
        [*words, "", "0", "0", WORDS, str(folder), *patterns], capture_output=True, timeout=20, check=True
    )
    return read_collected(done.stdout)


def test_file_replaced_by_a_link_at_the_last_moment_is_not_read(scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    tree(scratch, "a")
    attack = f"os.unlink({str(scratch / 'a')!r}); os.symlink({str(tmp_path / 'secret')!r}, {str(scratch / 'a')!r})"
    kept = run(scratch, "a", at="a", attack=attack)
    assert (kept.files, kept.left_out) == ((), 1)


def test_file_replaced_by_a_hard_link_at_the_last_moment_is_not_read(scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    tree(scratch, "a")
    attack = f"os.unlink({str(scratch / 'a')!r}); os.link({str(tmp_path / 'secret')!r}, {str(scratch / 'a')!r})"
    kept = run(scratch, "a", at="a", attack=attack)
    assert (kept.files, kept.left_out) == ((), 1)


def test_file_replaced_by_a_pipe_at_the_last_moment_does_not_block(scratch: Path) -> None:
    tree(scratch, "a")
    kept = run(scratch, "a", at="a", attack=f"os.unlink({str(scratch / 'a')!r}); os.mkfifo({str(scratch / 'a')!r})")
    assert (kept.files, kept.left_out) == ((), 1)


def test_folder_replaced_by_a_link_at_the_last_moment_is_not_entered(scratch: Path, tmp_path: Path) -> None:
    tree(tmp_path / "other", "a")
    tree(scratch, "sub/a")
    sub, gone = str(scratch / "sub"), str(scratch / "gone")
    attack = f"os.rename({sub!r}, {gone!r}); os.symlink({str(tmp_path / 'other')!r}, {sub!r})"
    assert run(scratch, "sub/a", at="sub", attack=attack).files == ()
    assert (tmp_path / "other" / "a").exists()


# --- removal ---------------------------------------------------------------------------------------------------------


def remove(folder: Path) -> None:
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        collect.Remover(top).remove()
    finally:
        os.close(top)


def test_removal_takes_everything_and_nothing_outside(scratch: Path, tmp_path: Path) -> None:
    tree(tmp_path / "other", "a", "b/c")
    tree(scratch, "a", "b/c/d", ".hidden/.more", "x y\n/z")
    (scratch / "link").symlink_to(tmp_path / "other")
    (scratch / "b" / "link").symlink_to(tmp_path / "other" / "b")
    os.mkfifo(scratch / "b" / "pipe")
    os.mknod(scratch / "s", stat.S_IFSOCK | 0o600)
    (scratch / "closed").mkdir()
    tree(scratch / "closed", "f")
    (scratch / "closed").chmod(0)
    remove(scratch)
    assert os.listdir(scratch) == []
    assert sorted(path.name for path in (tmp_path / "other").rglob("*")) == ["a", "b", "c"]


@pytest.mark.slow
def test_removal_of_deep_folders_takes_few_descriptors(scratch: Path) -> None:
    """Deeper than a path can be, and than this process may open files."""
    place = os.open(scratch, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    remove(scratch)
    assert os.listdir(scratch) == []


def test_removal_of_many_folders_goes_in_passes(scratch: Path) -> None:
    for number in range(collect._PASS + 100):
        (scratch / str(number)).mkdir()
    remove(scratch)
    assert os.listdir(scratch) == []


@pytest.mark.slow
def test_removal_takes_a_bounded_time(scratch: Path) -> None:
    """Each file that is removed comes back under another name, as if a process of the same user made them. The worker
    may have been started with any signal ignored.
    """
    tree(scratch, "0")
    words = ("", "0", "0", WORDS.replace(f"remove={BOUNDS['remove']}", "remove=1"), str(scratch))
    attack = f"""
import itertools, runpy, signal, sys
from pathlib import Path
signal.signal(signal.SIGALRM, signal.SIG_IGN)
numbers = itertools.count(1)
sys.addaudithook(lambda event, _: event == "os.remove" and Path({str(scratch)!r}, str(next(numbers))).touch())
sys.argv = ["collect.py", *{words!r}]
runpy.run_path({collect.__file__!r}, run_name="__main__")
"""
    assert subprocess.run([sys.executable, "-I", "-S", "-c", attack], timeout=20).returncode == -signal.SIGALRM


def test_guard_removes_no_file_by_a_link_that_was_put_there(scratch: Path, tmp_path: Path) -> None:
    """The folder of a run that could not be started, which may be another user's already."""
    tree(scratch, "inner/passwd")
    tree(tmp_path / "etc", "passwd")
    attack = f"""
import os, sys
from zsched.worker.process.scratch import Scratch
inner = {str(scratch / "inner")!r}
def hook(event, _):
    if event == "os.remove" and not os.path.islink(inner):
        os.rename(inner, inner + "2")
        os.symlink({str(tmp_path / "etc")!r}, inner)
sys.addaudithook(hook)
Scratch.unmake({str(scratch)!r})
"""
    subprocess.run([sys.executable, "-P", "-c", attack], timeout=20, check=True)
    assert (tmp_path / "etc" / "passwd").exists()
    assert not (scratch / "inner2" / "passwd").exists()


def test_program_writes_what_it_read_and_removes_the_rest(scratch: Path) -> None:
    tree(scratch, "a", "b/c")
    words = (sys.executable, "-I", "-S", collect.__file__, "", "0", "0", WORDS, str(scratch))
    done = subprocess.run([*words, "a"], capture_output=True, timeout=20, check=True)
    assert read_collected(done.stdout).files[0].data == b"a"
    assert os.listdir(scratch) == []
    # Nobody reads: the folder is emptied all the same.
    tree(scratch, "a")
    reading, writing = os.pipe()
    os.close(reading)
    subprocess.run([*words, "a"], stdout=writing, timeout=20, check=True)
    os.close(writing)
    assert os.listdir(scratch) == []


def test_header_is_json_that_no_name_can_break(scratch: Path) -> None:
    tree(scratch, 'a"],"left_out":9,"x":["')
    kept = collected(scratch, "*")
    assert (len(kept.files), kept.left_out) == (1, 0)
    assert json.dumps(kept.files[0].path)
