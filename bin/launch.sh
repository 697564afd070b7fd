# Read by the programs beside it: makes .venv on first use, and knows when it must be made anew.
#
#   prepare run     .venv has what zsched needs
#   prepare test    .venv also has what its tests need
#
# Packages come from the lock file of that kind, requirements-run.txt or requirements-test.txt beside this file: each has
# one version, and the registry's file must have one of its hashes. With ZSCHED_UNLOCKED=1 they come by the ranges of
# setup.cfg instead, unchecked.
#
# Both return 0 at once when .venv's stamp says what this checkout asks for (a few short processes, some 5 ms). A stamp
# is written last, so a build that was cut off has none, and is cleared and done again. $venv/bin/python is the result.

root=${self%/*/*}
venv=$root/.venv
log=$root/.venv.log
newline='
'

prepare() {
    kind=$1
    current "$kind" && return 0
    if ! [ -w "$root" ]; then
        say "$root can't be written, so .venv can't be made there; pip install it instead"
        return 1
    fi
    alone build
}

# Has .venv the stamp that this checkout asks for? The first line of one is ZSCHED_PYTHON as it was when it was made.
current() {
    { IFS= read -r asked && made=$(cat); } 2>/dev/null <"$venv/zsched.$1.stamp" || return 1
    [ "$made" = "$(wanted "$1")" ] || return 1
    # No wish: any interpreter will do. A wish may be another name for the one that is there.
    [ -z "${ZSCHED_PYTHON:-}" ] || [ "$ZSCHED_PYTHON" = "$asked" ] ||
        [ "$(readlink -f -- "$(command -v -- "$ZSCHED_PYTHON")")" = "$(readlink -f "$venv/bin/python")" ]
}

# The further lines of a stamp: the place (a virtual environment can't be moved), the file that names the packages and
# its checksum, and the interpreter under .venv with its size and time (an upgrade may bring another version under the
# same name). The argument is the kind.
wanted() {
    printf '%s\n' "$root"
    source_of "$1"
    cksum <"$root/$(source_of "$1")"
    readlink -f "$venv/bin/python"
    stat -L -c '%s %Y' "$venv/bin/python"
} 2>/dev/null

# The file that names the packages of a kind.
source_of() {
    if locked; then printf 'bin/requirements-%s.txt\n' "$1"; else printf 'setup.cfg\n'; fi
}

locked() {
    [ "${ZSCHED_UNLOCKED:-}" != 1 ]
}

# Run a function in a subshell, one launcher at a time. A pip that outlives its killed launcher keeps the lock.
alone() {
    if ! command -v flock >/dev/null 2>&1; then
        say "no flock; on Debian: apt-get install util-linux"
        return 1
    fi
    (
        flock -n 9 || { say "another launcher is making .venv; waiting for it" && flock 9; } || exit 1
        "$@"
    ) 9>"$root/.venv.lock"
}

build() {
    # Whoever had the lock before may have done it all.
    current "$kind" && return 0
    # What a person set for another Python must not lead ours astray.
    unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX VIRTUAL_ENV
    # As -P: no `python -m` below imports what stands in the working folder, which anybody may have written.
    PYTHONSAFEPATH=1
    export PYTHONSAFEPATH
    : >"$log" || return 1
    if ! reusable; then
        say "making .venv (once; it takes a minute or less)"
        make_venv || return 1
    else
        say "the packages or the interpreter changed, or the tests run for the first time: bringing .venv up to date"
    fi
    rm -f "$venv"/zsched.*.stamp
    install_requirements && link_checkout || {
        complain "$(reason)"
        return 1
    }
    # What the tests need includes what zsched needs.
    [ "$kind" = run ] || stamp run || return 1
    stamp "$kind"
}

# Was .venv once complete, in this place, on an interpreter that is the one wished for and still of the same version?
# And by a lock file, if one is used now? pip checks no hash of a package that is there already.
reusable() {
    for made in "$venv"/zsched.*.stamp; do :; done
    [ -f "$made" ] && [ "$(sed -n 2p "$made")" = "$root" ] || return 1
    ! locked || sed -n 3p "$made" | grep -q '^bin/requirements-' || return 1
    "$venv/bin/python" -c "import apsw, docopt, zmq" >>"$log" 2>&1 || return 1
    [ -z "${ZSCHED_PYTHON:-}" ] || [ "$(base_of "$ZSCHED_PYTHON")" = "$(base_of "$venv/bin/python")" ]
}

base_of() {
    "$1" -c 'import os, sys; print(os.path.realpath(sys._base_executable), sys.version_info[:2])' 2>>"$log"
}

# Make an empty .venv with the first interpreter that can.
make_venv() {
    found=
    IFS=$newline
    for python in $(interpreters); do
        unset IFS
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >>"$log" 2>&1 || continue
        found=$python
        venv_by "$python" && return 0
    done
    unset IFS
    if [ -n "$found" ]; then
        complain "$found can't make a virtual environment; on Debian: apt-get install python3-venv"
    elif [ -n "${ZSCHED_PYTHON:-}" ]; then
        say "ZSCHED_PYTHON is $ZSCHED_PYTHON, which is no Python 3.11 or newer"
    else
        say "no Python 3.11 or newer; on Debian: apt-get install python3 python3-venv; or set ZSCHED_PYTHON"
    fi
    return 1
}

interpreters() {
    if [ -n "${ZSCHED_PYTHON:-}" ]; then
        printf '%s\n' "$ZSCHED_PYTHON"
        return
    fi
    for name in python3.13 python3.12 python3.11 python3 /usr/bin/python3; do
        command -v "$name"
    done
}

# Each way starts from nothing: Debian's python3 without python3-venv leaves a half-made folder behind.
venv_by() {
    clear_venv && "$1" -m venv "$venv" >>"$log" 2>&1 && has_pip && return 0
    if command -v uv >/dev/null 2>&1; then
        clear_venv && uv venv --python "$1" "$venv" >>"$log" 2>&1 && return 0
    fi
    clear_venv && "$1" -m venv --without-pip "$venv" >>"$log" 2>&1 && outer_pip >/dev/null
}

clear_venv() {
    # A folder that is a mount point can be emptied, but not removed.
    rm -rf -- "$venv" 2>>"$log" || [ -z "$(ls -A -- "$venv")" ]
}

has_pip() {
    "$venv/bin/python" -m pip --version >>"$log" 2>&1
}

# An interpreter outside whose pip can install into .venv (pip 22.3 and later have --python).
outer_pip() {
    IFS=$newline
    for outer in $(interpreters) python3; do
        unset IFS
        if "$outer" -m pip --python "$venv/bin/python" --version >>"$log" 2>&1; then
            printf '%s\n' "$outer"
            return 0
        fi
    done
    unset IFS
    return 1
}

# The packages of a kind by the ranges of setup.cfg, one a line.
ranges() {
    "$venv/bin/python" - "$root/setup.cfg" "$1" <<'END'
import configparser
import sys

parser = configparser.ConfigParser(interpolation=None)
parser.read(sys.argv[1], encoding="utf-8")
print(parser["options"]["install_requires"])
if sys.argv[2] == "test":
    print(parser["options.extras_require"]["test"])
END
}

# Install the packages of $kind by the first installer that is there: .venv's pip, uv, or a pip outside.
install_requirements() {
    if locked; then
        # Wheels only: to build a source package pip would fetch build tools, which no lock file names.
        set -- install --quiet --require-hashes --only-binary :all: -r "$root/$(source_of "$kind")"
    else
        ranges "$kind" >"$venv/zsched.requirements" 2>>"$log" || return 1
        set -- install --quiet -r "$venv/zsched.requirements"
    fi
    if has_pip; then
        "$venv/bin/python" -m pip "$@" --no-input --disable-pip-version-check >>"$log" 2>&1
        return
    fi
    if command -v uv >/dev/null 2>&1; then
        # It has certificates of its own, and a company's proxy has not; the second name is that of older releases.
        UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 uv pip "$@" --python "$venv/bin/python" >>"$log" 2>&1 && return
    fi
    outer=$(outer_pip) &&
        "$outer" -m pip --python "$venv/bin/python" "$@" --no-input --disable-pip-version-check >>"$log" 2>&1
}

# Why the packages could not be installed, as far as the log shows it.
reason() {
    file=$(source_of "$kind")
    if grep -qi -e 'do not match the hashes' -e 'hash mismatch' "$log"; then
        printf '%s\n' "a package has another hash than in $file, so it was not installed"
    elif locked; then
        printf '%s\n' "the packages of $file could not be installed; where they have no wheels for this Python or\
 system, ZSCHED_UNLOCKED=1 installs by the ranges of setup.cfg, without hashes"
    else
        printf '%s\n' "the packages of setup.cfg could not be installed"
    fi
}

# Let .venv import zsched from the checkout, so that an edit counts at once.
link_checkout() {
    packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))') &&
        printf '%s\n' "$root" >"$packages/zsched-checkout.pth"
}

stamp() {
    { printf '%s\n' "${ZSCHED_PYTHON:-}" && wanted "$1"; } >"$venv/zsched.$1.new" &&
        mv -f "$venv/zsched.$1.new" "$venv/zsched.$1.stamp"
}

say() {
    printf 'zsched: %s\n' "$1" >&2
}

complain() {
    tail -n 20 "$log" >&2
    say "$1 (all of it: $log)"
}
