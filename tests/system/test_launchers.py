"""The launchers in bin/: from a fresh checkout, with nothing but sh and a Python, to a running program.

Each test that builds an environment asks a package registry, as a person's first call does. The checkout's path has a
space in it, since people's have.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zsched import __version__

ROOT = Path(__file__).parents[2]
VERSION = f"zsched {__version__}\n"

# A first call installs from a registry, and how long that takes is the network's to say: the quick tests leave this to
# .ci/run.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# The interpreter under the one that runs the tests: a virtual environment must not be the base of another.
BASE = os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def checkout_at(folder: Path) -> Path:
    """A fresh checkout: what stands in this one, without anything that was made in it."""
    left_out = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "*.db*")
    return Path(shutil.copytree(ROOT, folder / "a checkout", ignore=left_out, symlinks=True))


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a person's shell has at least; `more` comes on top."""
    return {"HOME": str(home), "PATH": "/usr/bin:/bin", "ZSCHED_PYTHON": BASE, **more}


def call(
    program: Path, *arguments: str, env: dict[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], env=env, cwd=cwd, capture_output=True, text=True, timeout=500)


def succeeds(program: Path, *arguments: str, env: dict[str, str], cwd: Path | None = None) -> str:
    """Call a launcher that must show the version; returns what it said on stderr."""
    done = call(program, *(arguments or ("--version",)), env=env, cwd=cwd)
    assert (done.returncode, done.stdout) == (0, VERSION), done.stderr
    return done.stderr


def until(condition: Callable[[], bool]) -> None:
    """Wait for another process to have done something."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[Path]:
    """A checkout whose launchers were called once."""
    checkout = checkout_at(tmp_path_factory.mktemp("ready"))
    # Called in a folder of modules that nobody is to import.
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("venv", "pip", "virtualenv", "configparser", "apsw"):
        (folder / f"{name}.py").write_text(f"open({str(folder / 'imported')!r}, 'w').close()\n", "ascii")
    said = succeeds(checkout / "bin/zsched", env=environment(home), cwd=folder)
    assert said == "zsched: making .venv (once; it takes a minute or less)\n"
    assert not (folder / "imported").exists()
    yield checkout
    shutil.rmtree(checkout)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """A checkout in which nothing was called yet."""
    checkout = checkout_at(tmp_path)
    yield checkout
    shutil.rmtree(checkout)


# --- Once it is made --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["zsched", "scheduler", "worker"])
def test_a_later_call_says_nothing_of_its_own(ready: Path, home: Path, program: str) -> None:
    assert succeeds(ready / "bin" / program, env=environment(home)) == ""


def test_a_launcher_works_through_links_and_from_any_folder(ready: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "first").symlink_to(ready / "bin/zsched")
    (tmp_path / "second").symlink_to("first")
    env = environment(home, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert succeeds(Path("second"), env=env, cwd=Path("/")) == ""
    assert succeeds(Path("bin/zsched"), env=env, cwd=ready) == ""


def test_the_program_takes_the_place_of_the_shell(ready: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os, sys; print(os.getpid(), file=sys.stderr)")
    env = environment(home, PYTHONPATH=str(tmp_path))
    with subprocess.Popen([ready / "bin/worker", "-version"], env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.read() == f"{process.pid}\n"


def test_a_module_in_the_working_folder_is_not_taken_for_ours(ready: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "docopt.py").write_text("raise SystemExit('taken')")
    assert succeeds(ready / "bin/zsched", env=environment(home), cwd=tmp_path) == ""


def test_an_edit_in_the_checkout_counts_at_once(ready: Path, home: Path) -> None:
    source = ready / "zsched/__init__.py"
    before = source.read_text()
    source.write_text(before.replace(__version__, "9.8.76"))
    try:
        assert call(ready / "bin/zsched", "version", env=environment(home)).stdout == "zsched 9.8.76\n"
    finally:
        source.write_text(before)


def test_the_exit_code_and_the_words_are_the_programs_own(ready: Path, home: Path) -> None:
    done = call(ready / "bin/zsched", "no such command", "*", env=environment(home))
    assert done.returncode == 2
    assert done.stderr.startswith("zsched: no command no such command; ")


def test_an_interpreter_by_another_name_is_the_same(ready: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to(BASE)
    for wish in ("", str(tmp_path / "python3")):
        assert succeeds(ready / "bin/zsched", env=environment(home, ZSCHED_PYTHON=wish)) == ""


def test_changed_lock_file_brings_the_environment_up_to_date_once(ready: Path, home: Path) -> None:
    with (ready / "bin/requirements-run.txt").open("a") as file:
        file.write("# changed\n")
    said = succeeds(ready / "bin/zsched", env=environment(home))
    assert said.endswith("bringing .venv up to date\n")
    assert succeeds(ready / "bin/zsched", env=environment(home)) == ""


def test_invalid_python_is_reported_in_one_line_and_harms_nothing(ready: Path, home: Path) -> None:
    done = call(ready / "bin/zsched", "version", env=environment(home, ZSCHED_PYTHON="/bin/false"))
    assert done.returncode == 1
    assert done.stderr.endswith("\nzsched: ZSCHED_PYTHON is /bin/false, which is no Python 3.11 or newer\n")
    assert succeeds(ready / "bin/zsched", env=environment(home)) == ""


def test_a_launcher_costs_less_than_40_ms(ready: Path, home: Path) -> None:
    def fastest_s(*command: object) -> float:
        times = []
        for _ in range(15):
            begin = time.perf_counter()
            subprocess.run(
                [str(word) for word in command], env=environment(home), check=True, stdout=subprocess.DEVNULL
            )
            times.append(time.perf_counter() - begin)
        return min(times)

    direct = fastest_s(ready / ".venv/bin/python", "-P", "-m", "zsched.commands.zsched", "version")
    assert fastest_s(ready / "bin/zsched", "version") - direct < 0.040


# --- Making it --------------------------------------------------------------------------------------------------------


def test_without_any_python_the_package_to_install_is_named(fresh: Path, tmp_path: Path) -> None:
    path = programs_without(tmp_path, "python")
    # Debian's own place is tried even when it is not on the PATH, so that this holds only where it has nothing.
    if Path("/usr/bin/python3").exists():
        (path / "python3").symlink_to("/bin/false")
        env = {"PATH": str(path), "ZSCHED_PYTHON": "python3"}
        expected = "zsched: ZSCHED_PYTHON is python3, which is no Python 3.11 or newer"
    else:
        env = {"PATH": str(path)}
        expected = "zsched: no Python 3.11 or newer; on Debian: apt-get install python3 python3-venv"
    done = call(fresh / "bin/zsched", env=env)
    assert done.returncode == 1
    assert expected in done.stderr


def test_python_without_venv_is_reported_with_the_package_to_install(fresh: Path, tmp_path: Path) -> None:
    python = crippled(tmp_path, '"-m venv "*) exit 1 ;;')
    env = {"PATH": str(programs_without(tmp_path, "python", "uv")), "ZSCHED_PYTHON": str(python)}
    done = call(fresh / "bin/zsched", env=env)
    assert done.returncode == 1
    assert f"zsched: {python} can't make a virtual environment; on Debian: apt-get install python3-venv" in done.stderr


def test_launchers_called_at_the_same_moment_make_it_once_and_all_work(fresh: Path, home: Path) -> None:
    assert_all_work_at_once(fresh, environment(home))


def test_missing_flock_is_named_with_the_package_to_install(fresh: Path, home: Path, tmp_path: Path) -> None:
    done = call(fresh / "bin/zsched", env=environment(home, PATH=str(programs_without(tmp_path, "flock"))))
    assert done.returncode == 1
    assert done.stderr == "zsched: no flock; on Debian: apt-get install util-linux\n"
    assert not (fresh / ".venv").exists()


def test_a_build_that_was_killed_is_done_again(fresh: Path, home: Path) -> None:
    process = subprocess.Popen(
        [fresh / "bin/zsched", "version"], env=environment(home), stderr=subprocess.PIPE, start_new_session=True
    )
    until((fresh / ".venv/pyvenv.cfg").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (fresh / ".venv/zsched.run.stamp").exists()
    assert "making .venv" in succeeds(fresh / "bin/zsched", env=environment(home))


def test_a_half_made_environment_is_cleared(fresh: Path, home: Path) -> None:
    (fresh / ".venv/bin").mkdir(parents=True)
    (fresh / ".venv/bin/python").symlink_to("/nowhere/python3")
    assert "making .venv" in succeeds(fresh / "bin/zsched", env=environment(home))


def test_checkout_that_was_moved_builds_its_environment_again(fresh: Path, home: Path) -> None:
    succeeds(fresh / "bin/zsched", env=environment(home))
    moved = fresh.rename(fresh.with_name("moved"))
    try:
        assert "making .venv" in succeeds(moved / "bin/zsched", env=environment(home))
        assert succeeds(moved / "bin/zsched", env=environment(home)) == ""
    finally:
        moved.rename(fresh)


def test_other_interpreter_builds_the_environment_again(fresh: Path, home: Path) -> None:
    others = [
        path for path in map(shutil.which, ("/usr/bin/python3.11", "/usr/bin/python3.13", "/usr/bin/python3")) if path
    ]
    other = next((path for path in others if os.path.realpath(path) != BASE), None)
    if other is None:
        pytest.skip("there is one Python only")
    succeeds(fresh / "bin/zsched", env=environment(home))
    assert "making .venv" in succeeds(fresh / "bin/zsched", env=environment(home, ZSCHED_PYTHON=other))
    assert succeeds(fresh / "bin/zsched", env=environment(home, ZSCHED_PYTHON="")) == ""


def test_where_ensurepip_is_missing_the_pip_outside_installs(fresh: Path, home: Path, tmp_path: Path) -> None:
    env = environment(home, **by_outer_pip(tmp_path))
    assert "making .venv" in succeeds(fresh / "bin/zsched", env=env)
    assert succeeds(fresh / "bin/zsched", env=env) == ""


def test_where_ensurepip_is_missing_uv_installs(fresh: Path, home: Path, tmp_path: Path) -> None:
    env = environment(home, **by_uv(tmp_path))
    assert "making .venv" in succeeds(fresh / "bin/zsched", env=env)
    assert not list(fresh.glob(".venv/lib/python*/site-packages/pip"))
    assert succeeds(fresh / "bin/zsched", env=env) == ""


@pytest.mark.parametrize("way", ["pip", "uv", "outer pip"])
def test_package_with_another_hash_is_not_installed(fresh: Path, home: Path, tmp_path: Path, way: str) -> None:
    locked = fresh / "bin/requirements-run.txt"
    before = locked.read_text()
    name, entry = re.search(r"^(mdurl)==.*?^[^ ]", before, re.MULTILINE | re.DOTALL).group(1, 0)  # type: ignore[union-attr]
    locked.write_text(before.replace(entry, re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", entry)))
    setting = {"pip": lambda _: {}, "uv": by_uv, "outer pip": by_outer_pip}[way](tmp_path)
    done = call(fresh / "bin/zsched", "version", env=environment(home, **setting))
    assert done.returncode == 1
    assert "zsched: a package has another hash than in bin/requirements-run.txt, so it was not installed" in done.stderr
    assert not list(fresh.glob(f".venv/lib/python*/site-packages/{name}*"))
    # And the next call is no better: nothing counts as made.
    assert call(fresh / "bin/zsched", "version", env=environment(home, **setting)).returncode == 1


def test_without_the_lock_packages_come_by_ranges_and_are_not_kept_with_it(fresh: Path, home: Path) -> None:
    locked = fresh / "bin/requirements-run.txt"
    before = locked.read_text()
    locked.write_text("docopt-ng==0.0.0 --hash=sha256:" + "0" * 64)
    done = call(fresh / "bin/zsched", "version", env=environment(home))
    assert done.returncode == 1
    assert (
        "; where they have no wheels for this Python or system, ZSCHED_UNLOCKED=1 installs by the ranges" in done.stderr
    )
    unlocked = environment(home, ZSCHED_UNLOCKED="1")
    assert "making .venv" in succeeds(fresh / "bin/zsched", env=unlocked)
    assert succeeds(fresh / "bin/zsched", env=unlocked) == ""
    with (fresh / "setup.cfg").open("a") as file:
        file.write("# changed\n")
    assert succeeds(fresh / "bin/zsched", env=unlocked).endswith("bringing .venv up to date\n")
    # Nobody checked what is there.
    locked.write_text(before)
    assert "making .venv" in succeeds(fresh / "bin/zsched", env=environment(home))


def test_bill_of_materials_lists_exactly_the_locked_packages(fresh: Path, home: Path) -> None:
    done = call(fresh / "bin/sbom", env=environment(home))
    assert done.returncode == 0, done.stderr
    bill = json.loads(done.stdout)
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["version"] == __version__
    listed = {f"{one['name']}=={one['version']}": hashes_of(one) for one in bill["components"]}
    entries = re.split(r"^(?=[a-z0-9])", (fresh / "bin/requirements-run.txt").read_text(), flags=re.MULTILINE)[1:]
    assert listed == {
        entry.split(" ", 1)[0]: sorted(re.findall("--hash=sha256:([0-9a-f]{64})", entry)) for entry in entries
    }
    # For the same release always the same bytes.
    assert call(fresh / "bin/sbom", env=environment(home)).stdout == done.stdout


def hashes_of(component: dict[str, Any]) -> list[str]:
    return sorted(one["content"] for place in component["externalReferences"] for one in place.get("hashes", ()))


def test_what_only_the_tests_need_is_installed_by_bin_test_alone(fresh: Path, home: Path) -> None:
    env = environment(home)
    succeeds(fresh / "bin/zsched", env=env)
    python = fresh / ".venv/bin/python"
    assert subprocess.run([python, "-c", "import pytest"], capture_output=True).returncode != 0
    (fresh / "tests/unit/test_launcher_probe.py").write_text(
        "import pytest\n\n\ndef test_a():\n    pass\n\n\n@pytest.mark.slow\ndef test_b():\n    pass\n"
    )
    # By path: names of other tests hold the names of all files.
    probe = ("tests/unit/test_launcher_probe.py", "-k", "test_a")
    done = call(fresh / "bin/test", probe[0], env=env)
    assert "1 passed" in done.stdout
    assert "1 passed" in call(fresh / "bin/test", *probe, "--all", env=env).stdout
    done = call(fresh / "bin/test", "--all", "tests/unit/test_launcher_probe.py", env=env, cwd=Path("/"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 passed" in done.stdout
    assert succeeds(fresh / "bin/zsched", env=env) == ""


def assert_all_work_at_once(checkout: Path, env: dict[str, str]) -> None:
    """Call three launchers at once; each must work, and the environment be made once."""
    commands: list[list[str | Path]] = [
        [checkout / "bin" / program, "--version"] for program in ("scheduler", "worker", "zsched")
    ]
    processes = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    said = ""
    for process in processes:
        out, err = process.communicate(timeout=500)
        assert (process.returncode, out) == (0, VERSION), err
        said += err
    assert said.count("making .venv (once") == 1


def programs_without(folder: Path, *names: str) -> Path:
    """A folder for PATH with the programs of /usr/bin and /bin, but for those whose name begins with one of names."""
    path = folder / "programs"
    path.mkdir()
    for place in ("/usr/bin", "/bin"):
        for program in Path(place).iterdir():
            if not program.name.startswith(names) and not (path / program.name).is_symlink():
                (path / program.name).symlink_to(program)
    return path


# As Debian's python3 without python3-venv does: it leaves a folder behind and fails.
NO_ENSUREPIP = '*--without-pip*) ;; "-m venv "*) mkdir -p "$3/bin"; exit 1 ;;'


def by_outer_pip(folder: Path) -> dict[str, str]:
    """Variables that leave nothing to install with but the pip of the interpreter below."""
    if subprocess.run([BASE, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        pytest.skip("no pip outside")
    path = programs_without(folder, "python", "uv")
    return {"PATH": str(path), "ZSCHED_PYTHON": str(crippled(folder, NO_ENSUREPIP))}


def by_uv(folder: Path) -> dict[str, str]:
    """Variables that leave nothing to install with but uv."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is None:
        pytest.skip("no uv: the extra `test` of setup.cfg has it")
    path = programs_without(folder, "python", "uv")
    (path / "uv").symlink_to(uv)
    return {"PATH": str(path), "ZSCHED_PYTHON": str(crippled(folder, f'{NO_ENSUREPIP} "-m pip "*) exit 1 ;;'))}


def crippled(folder: Path, cases: str) -> Path:
    """A Python that can't do what the cases, of the shell's `case` over its arguments, forbid."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}\nesac\nexec "{BASE}" "$@"\n')
    python.chmod(0o755)
    return python
