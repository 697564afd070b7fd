"""Options of `submit` and `run` about a job's folder, umask, input and times; the caller's own are hints."""

from __future__ import annotations

import os
import sys
from binascii import b2a_base64
from collections.abc import Container, Iterator, Mapping, Sequence

from zsched.client.submission import Fields
from zsched.commands import exits, options
from zsched.model.limits import FILES_BYTES_MAX, FILES_MAX, PATH_BYTES_MAX, STDIN_BYTES_MAX


def read(arguments: Mapping[str, options.Value]) -> Fields:
    """The fields of a job. REST checks the values. Raises Failure."""
    fields: Fields = {
        "run_at": options.text(arguments, "--at"),
        "delay": options.text(arguments, "--delay"),
        "deadline": options.text(arguments, "--deadline"),
    }
    sent, wanted = options.words(arguments, "--put"), options.words(arguments, "--get")
    if sent:
        fields["files"] = own_files(sent)
    if wanted:
        fields["artifacts"] = wanted
    if (cwd := options.text(arguments, "--cwd")) is not None:
        fields["cwd"] = absolute(cwd, "--cwd")
    elif not sent and not wanted:
        fields["cwd_hint"] = folder()
    if (umask := options.text(arguments, "--umask")) is not None:
        fields["umask"] = umask
    else:
        fields["umask_hint"] = own_umask()
    if arguments["--stdin"]:
        fields["stdin"] = own_stdin()
    return fields


def absolute(cwd: str, option: str) -> str:
    """A folder that is named from our own one, for a host that does not know ours. Raises Failure."""
    base = "/" if cwd.startswith("/") else folder()
    if base is None:
        sentence = f"{option} {cwd}: your own folder is gone or has no name in UTF-8: write the whole path"
        raise exits.Failure(sentence, exits.USAGE)
    return os.path.join(base, cwd)


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


def own_files(given: Sequence[str]) -> dict[str, Mapping[str, str]]:
    """The files of `--put`, by their paths in the scratch folder. Raises Failure."""
    files: dict[str, tuple[bytes, int]] = {}
    room = FILES_BYTES_MAX
    for word in given:
        file, path = word, ""
        if not os.path.exists(word):
            file, colon, path = word.rpartition(":")
            file = file if colon else word
        for source, place in _sources(file, path or os.path.basename(file.rstrip("/"))):
            files[place] = _content(source, place, files)
            room -= len(files[place][0])
            if room < 0:
                most = f"more than {FILES_BYTES_MAX} bytes in all"
                raise _refusal(f"{most}: put larger files on shared storage and pass their paths")
    return {
        place: {"base64": b2a_base64(data, newline=False).decode(), "mode": f"{mode & 0o777:03o}"}
        for place, (data, mode) in files.items()
    }


def _content(source: str, place: str, others: Container[str]) -> tuple[bytes, int]:
    """What a file has, up to a byte more than may be sent, and its mode. Raises Failure."""
    if place in others:
        raise _refusal(f"two files are to be {place}")
    try:
        place.encode()
    except UnicodeEncodeError:
        raise _refusal(f"the name of {os.fsencode(source)!r} is not UTF-8: rename it") from None
    try:
        with open(source, "rb") as opened:
            return opened.read(FILES_BYTES_MAX + 1), os.fstat(opened.fileno()).st_mode
    except OSError as error:
        raise exits.Failure(f"--put: can't read {source}: {error.strerror}") from None


def _sources(file: str, path: str) -> Iterator[tuple[str, str]]:
    """A file, or the files of a folder, each with its path in the scratch folder. Raises Failure."""
    if not os.path.isdir(file):
        yield file, path
        return
    count = 0
    for folder, folders, names in os.walk(file):
        folders.sort()
        if link := next((inner for inner in folders if os.path.islink(os.path.join(folder, inner))), None):
            raise _refusal(f"{os.path.join(folder, link)} is a link to a folder: name the folder by its own --put")
        for name in sorted(names):
            source = os.path.join(folder, name)
            if os.path.exists(source) and not os.path.isfile(source):
                raise _refusal(f"{source} is not a regular file")
            count += 1
            if count > FILES_MAX:
                raise _refusal(f"{file} has more than {FILES_MAX} files: pack them into an archive")
            # `.` and `..` have no name of their own: their files come to the top.
            yield (
                source,
                os.path.normpath(os.path.join("" if path in (".", "..") else path, os.path.relpath(source, file))),
            )
    if not count:
        raise _refusal(f"{file} has no files")


def _refusal(sentence: str) -> exits.Failure:
    return exits.Failure(f"--put: {sentence}", exits.USAGE)


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
