"""Bodies of lines: a job and the entries of its tasks, in any pieces, and what is wrong with a line."""

from __future__ import annotations

import hashlib
import json
import os
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from falcon import testing
from hypothesis import given, settings
from hypothesis import strategies as st

from zsched.api import ndjson
from zsched.api.http.upload import UPLOAD, Upload, UploadError
from zsched.api.problem import Problem
from zsched.model.entries import unpack
from zsched.model.limits import ENTRY_BYTES_MAX, JOB_LINE_BYTES_MAX, MIB

JOB = b'{"name": "j", "command": "true"}'


def receive(body: bytes, *cuts: int, error: UploadError | None = None) -> tuple[object, list[str]]:
    """The job and the entries of a body that comes in pieces, cut at these places."""
    upload = Upload()
    req = testing.create_req(method="POST", path="/jobs")
    req.env[UPLOAD] = upload
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[begin:end] for begin, end in pairwise(places) if begin < end]
    # Reading takes all that is there, so each piece comes when it is asked for.
    upload.go_on = lambda: None

    def next_piece() -> bytes:
        if pieces:
            upload.append(pieces.pop(0))
        else:
            upload.finish(error)
        return Upload.read(upload)

    upload.read = next_piece  # type: ignore[method-assign]
    digest, checked = hashlib.sha256(), list[object]()
    lines = ndjson.receive(req, None, digest, checked.append)
    assert digest.digest() == hashlib.sha256(body).digest()
    entries = [entry for _, packed in lines.entries.blocks for entry in unpack(packed)]
    assert lines.entries.count == len(entries)
    assert checked == [lines.job]
    return lines.job, entries


values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.recursive(
    st.integers(-(2**53), 2**53) | st.booleans() | st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


@settings(max_examples=30)
@given(
    st.lists(values, min_size=1, max_size=9), st.lists(st.integers(0, 300)), st.sampled_from([b"\n", b"\r\n", b"\n\n"])
)
def test_the_pieces_of_a_body_do_not_matter(entries: list[object], cuts: list[int], end: bytes) -> None:
    body = end.join([JOB, *(json.dumps(entry).encode() for entry in entries)])
    expected = [entry if isinstance(entry, str) else json.dumps(entry, separators=(",", ":")) for entry in entries]
    assert receive(body, *cuts) == (json.loads(JOB), expected)
    assert receive(body + end, *cuts)[1] == expected


def test_many_entries_are_blocks_in_a_file_that_can_be_read_again(tmp_path: Path) -> None:
    req = testing.create_req(
        method="POST", path="/jobs", body=JOB + b"".join(b'\n"%d"' % place for place in range(2_500))
    )
    before = set(os.listdir("/proc/self/fd"))
    lines = ndjson.receive(req, tmp_path, hashlib.sha256(), bool)
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        blocks = [(first, unpack(packed)) for first, packed in lines.entries.blocks]
        assert [(first, len(entries)) for first, entries in blocks] == [(0, 1_000), (1_000, 1_000), (2_000, 500)]
        assert [entry for _, entries in blocks for entry in entries] == [str(place) for place in range(2_500)]
    del lines
    assert set(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is empty: its first line is the job, a JSON object"),
        (b"[]\n1", "line 1: the first line is the job, a JSON object"),
        (b"{\n1", "line 1: the body is not JSON: "),
        (b'\n{\n"name": "j"}\n', "line 2: the body is not JSON: "),
        (JOB, "each: at least one entry"),
        (JOB + b"\n\n \n", "each: at least one entry"),
        (
            JOB + b'\n"a"\n\nplain\n',
            "line 4: JSON is malformed: invalid character (byte 0); each line after the first is",
        ),
        (JOB + b"\n1 2", "line 2: JSON is malformed: trailing characters (byte 3); "),
        (JOB + b'\n"a\\u0000"', "line 2: a NUL character"),
        (JOB + b'\n"\xff"', "line 2: the body is not UTF-8"),
        (JOB + b"\n1e999", "line 2: a number is too large for a float of 64 bits"),
        (JOB + b"\n9007199254740993", "line 2: an integer lies outside ±9007199254740992"),
        (JOB + b'\n"\\ud800"', "line 2: a lone surrogate is not a character"),
        (JOB + b'\n{"a": 1, "a": 2}', 'line 2: the key "a" stands there twice'),
        (JOB + b"\n" + b"[" * 90_000, "line 2: nested deeper than 32 levels"),
        (JOB + b"\n" + json.dumps("x" * (ENTRY_BYTES_MAX + 1)).encode(), "line 2: at most "),
    ],
)
def test_a_wrong_line_is_named(body: bytes, sentence: str) -> None:
    with pytest.raises(Problem) as caught:
        receive(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")
    assert caught.value.detail.startswith(sentence)


def test_a_line_without_end_is_refused_before_it_is_in_memory() -> None:
    pieces = [MIB * (place + 1) for place in range(JOB_LINE_BYTES_MAX // MIB)]
    for body in (b" " * (JOB_LINE_BYTES_MAX + 2), JOB + b'\n"' + b"x" * MIB):
        with pytest.raises(Problem, match=r"too long: at most [0-9]+ bytes") as caught:
            receive(body + b"\n1", *pieces, len(body))
        assert (caught.value.status, caught.value.code) == (413, "too_large")


def test_empty_lines_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    tracemalloc.start()
    try:
        receive(b"\n" * 1_000 + JOB + b"\n" * 500_000 + b'"a"')
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(ndjson, "LINES_MAX", 3_000)
    with pytest.raises(Problem, match="at most 3000 lines, empty ones included") as caught:
        receive(JOB + b"\n" * 4_000, 1_000, 2_000, 3_500)
    assert (caught.value.status, caught.value.code) == (413, "too_many")


def test_a_body_that_does_not_come_is_an_error() -> None:
    with pytest.raises(Problem) as caught:
        receive(JOB + b"\n1\n", error=UploadError(408, "too slow"))
    assert (caught.value.status, caught.value.code, caught.value.detail) == (408, "timeout", "too slow")


def test_a_full_disk_is_unavailable(tmp_path: Path) -> None:
    req = testing.create_req(method="POST", path="/jobs", body=JOB + b"\n1")
    with pytest.raises(Problem) as caught:
        ndjson.receive(req, tmp_path / "gone", hashlib.sha256(), bool)
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
