"""Small files: their paths and bounds, how they are stored, and how they travel in frames."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.world import TEST, Peer, Poller, World
from zsched.commands import artifacts
from zsched.commands.exits import Failure
from zsched.model import files
from zsched.model.faults import SpecError
from zsched.model.files import File, FileBody
from zsched.model.limits import (
    ARTIFACT_PATTERNS_MAX,
    CLAIM_INPUT_RUNS_MAX,
    FILES_BYTES_MAX,
    FILES_MAX,
    FRAME_FROM_WORKER_BYTES_MAX,
    PARTS_BYTES_MAX,
)
from zsched.model.names import plain_name
from zsched.model.spec import JobBody, job_spec
from zsched.model.types import JobId, JobSpec, RunStatus
from zsched.protocol import Artifacts, Dispatch, Output, Result, ResultAck, RunResult, pack, unpack_from_worker
from zsched.scheduler.dispatcher.commands import Made, Submit
from zsched.scheduler.dispatcher.parts import Parts
from zsched.worker.agent import parts
from zsched.worker.process.collected import Collected, read_collected

WHOLE = FILES_BYTES_MAX
HOSTILE = ("a\nb", "\x1b]0;x\x07", "<script>", "a b", "\u202egpj.exe", "ü", "-rf", ".bashrc", '"; rm')


def spec(**fields: Any) -> JobSpec:
    return job_spec(msgspec.convert({"name": "j", "command": "true", **fields}, JobBody))


# --- what a submit may name ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "..",
        "../a",
        "a/../b",
        "a/..",
        ".",
        "./a",
        "a//b",
        "a/",
        "",
        "a\0b",
        "x" * 256,
        "a/" * 512 + "bb",
        "\ud800",
    ],
)
def test_path_outside_the_scratch_folder_is_refused(path: str) -> None:
    assert files.path_fault(path)
    with pytest.raises(SpecError):
        files.read_files("files", {path: "text"})
    with pytest.raises(SpecError):
        files.check_patterns("artifacts", [path])


@pytest.mark.parametrize("path", ["a", "a/b", "...", ".hidden", "a..b", "x" * 255, "ü" * 127])
def test_path_inside_the_scratch_folder_is_accepted(path: str) -> None:
    assert not files.path_fault(path)
    assert files.read_files("files", {path: "text"}) == (File(path, b"text"),)


@pytest.mark.parametrize("path", ["a\nb", "\x1b[2J", "\u202ex", "a\tb"])
def test_submitted_names_are_printable(path: str) -> None:
    with pytest.raises(SpecError, match="printable"):
        files.read_files("files", {path: ""})
    with pytest.raises(SpecError, match="printable"):
        files.check_patterns("artifacts", [path])


def test_content_is_a_text_or_base64_with_a_mode() -> None:
    given: dict[str, str | FileBody] = {
        "text": "ü",
        "bytes": FileBody(base64=base64.b64encode(b"\0\xff").decode(), mode="755"),
        "long": FileBody(text="a", mode="0600"),
    }
    assert files.read_files("files", given) == (
        File("bytes", b"\0\xff", 0o755),
        File("long", b"a", 0o600),
        File("text", "ü".encode(), 0o644),
    )


@pytest.mark.parametrize(
    "body",
    [
        FileBody(),
        FileBody(text="a", base64="YQ=="),
        FileBody(base64="YQ"),
        FileBody(base64="Y Q=="),
        FileBody(text="a", mode="4755"),
        FileBody(text="a", mode="u+x"),
        FileBody(text="a", mode="-01"),
    ],
)
def test_unclear_content_or_mode_is_refused(body: FileBody) -> None:
    with pytest.raises(SpecError) as caught:
        files.read_files("files", {"a/b~": body})
    assert caught.value.field.startswith("files/a~1b~0")


def test_files_have_one_mib_together_and_not_a_byte_more() -> None:
    half = "x" * (WHOLE // 2)
    assert spec(files={"a": half, "b": half}).files_bytes == WHOLE
    with pytest.raises(SpecError, match="shared storage"):
        spec(files={"a": half, "b": half + "x"})


def test_number_of_files_and_patterns_is_bounded() -> None:
    assert len(spec(files={str(number): "" for number in range(FILES_MAX)}).files) == FILES_MAX
    with pytest.raises(SpecError, match="archive"):
        spec(files={str(number): "" for number in range(FILES_MAX + 1)})
    with pytest.raises(SpecError):
        spec(artifacts=["a"] * (ARTIFACT_PATTERNS_MAX + 1))


def test_file_can_t_be_the_folder_of_another() -> None:
    with pytest.raises(SpecError, match="folder of another"):
        spec(files={"a": "", "a/b": ""})


def test_job_with_files_or_artifacts_needs_a_worker_that_can() -> None:
    assert spec(files={"a": ""}, artifacts=["b"]).needs == ("artifacts", "files")
    assert spec(files={}, artifacts=[]).needs == ()


@pytest.mark.parametrize("name", HOSTILE)
def test_plain_name_has_harmless_characters_alone(name: str) -> None:
    plain = plain_name(name)
    assert set(plain) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert plain
    assert not plain.startswith(".")


def test_saved_artifacts_stay_below_their_folder(tmp_path: Path) -> None:
    """Whatever names a scheduler sends, and although two become the same."""
    folder = tmp_path / "in" / "got"
    paths = ["../../a", "/etc/b", "..", "", "c/../../d", *HOSTILE, "a b", "a_b", "\u65e5/a", "\u6771"]
    for place in artifacts.places(paths):
        artifacts.save(str(folder), place, b"x", 0o4777)
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(found) == len(paths)
    for path in found:
        assert folder in path.parents
        assert path.stat().st_mode & 0o7000 == 0
    with pytest.raises(Failure, match="exists"):
        artifacts.save(str(folder), "a_b", b"y", 0o644)


# --- as stored -------------------------------------------------------------------------------------------------------


def test_packed_files_are_unpacked_as_they_were() -> None:
    some = (File("a", b"", 0), File("ü\n/b", b"\0\xff" * 3, 0o777), File("c", b"c"))
    assert files.unpack(*files.pack(some)) == some
    with pytest.raises(ValueError, match="damaged"):
        files.unpack(files.pack(some)[0], b"too long to be all of them")


def test_artifacts_beyond_a_bound_are_left_out_one_by_one() -> None:
    kept, refused = files.accept(
        [
            File("a", bytes(WHOLE - 1)),
            File("large", b"xx"),
            File("last", b"x"),
            File("a", b""),
            File("../b", b""),
            File("/c", b""),
        ]
    )
    assert [file.path for file in kept] == ["a", "last"]
    assert refused == 4
    kept, refused = files.accept(File(str(number), b"") for number in range(FILES_MAX + 1))
    assert (len(kept), refused) == (FILES_MAX, 1)


# --- what a helper has written ---------------------------------------------------------------------------------------


def written(header: object, *contents: bytes) -> bytes:
    text = msgspec.json.encode(header)
    return b"".join((len(text).to_bytes(4, "big"), text, *contents))


def test_collected_files_are_read() -> None:
    header = {"files": [["a", 2, 0o640], ["b/c", 0, 0]], "left_out": 2, "why": ["x", "y"]}
    assert read_collected(written(header, b"hi")) == Collected(
        (File("a", b"hi", 0o640), File("b/c", b"", 0)), left_out=2, why="x; y"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff\xff\xff",
        b"\0\0\0\2{}",
        written({"files": [["../a", 1, 0]], "left_out": 0, "why": []}, b"x"),
        written({"files": [["/a", 1, 0]], "left_out": 0, "why": []}, b"x"),
        written({"files": [["a", 2, 0]], "left_out": 0, "why": []}, b"x"),
        written({"files": [["a", -1, 0]], "left_out": 0, "why": []}),
        written({"files": [["a", 1, 0]], "left_out": 0, "why": []}, b"xx"),
        written({"files": [["a", 1, 0o4755]], "left_out": 0, "why": []}, b"x"),
        written({"files": [["a", 1, 0]], "left_out": -1, "why": []}, b"x"),
        written({"files": [["a", 1]], "left_out": 0, "why": []}, b"x"),
        written({"files": {}, "left_out": 0, "why": 1}),
    ],
)
def test_anything_else_from_a_helper_is_damage(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (any reason)
        read_collected(data)


# --- frames ----------------------------------------------------------------------------------------------------------


def ended(run: int, *kept: File, **fields: Any) -> RunResult:
    return RunResult(run, "success", "exit", 1, 1, 0, files=kept, **fields)


def received(*results: RunResult) -> list[Artifacts | Result]:
    """What the scheduler receives for results that are reported together."""
    frames = []
    for frame in parts.frames("s1", results):
        body = pack(frame)
        assert len(body) <= FRAME_FROM_WORKER_BYTES_MAX
        frames.append(unpack_from_worker(body))
    return frames  # type: ignore[return-value]


def test_small_artifacts_go_with_their_result() -> None:
    (frame,) = received(ended(1, File("a", b"x")), ended(2))
    assert isinstance(frame, Result)
    assert [result.files for result in frame.results] == [(File("a", b"x"),), ()]


@pytest.mark.parametrize(
    "kept",
    [
        [File("a", bytes(range(256)) * 4096)],
        [File("a", bytes(WHOLE - 3)), File("b", b"b", 0o755), File("c", b""), File("d", b"dd")],
        [File(f"{number:03}" + "ü" * 125, bytes(4096)) for number in range(256)],
        [File("a", bytes(600_000)), File("b", bytes(400_000))],
    ],
)
def test_large_artifacts_go_ahead_in_parts(kept: list[File]) -> None:
    full = Output(bytes(200_000), bytes(200_000), 400_000)
    *ahead, last = received(ended(7, *kept, stdout=full, stderr=full))
    assert ahead
    known = Parts()
    for frame in ahead:
        assert isinstance(frame, Artifacts)
        known.on_artifacts(frame)
    assert isinstance(last, Result)
    assert known.take("s1", last.results[0]) == tuple(kept)
    assert known.take("s1", last.results[0]) is None


def test_missing_part_makes_the_result_wait() -> None:
    *ahead, last = received(ended(7, File("a", bytes(WHOLE))))
    assert isinstance(last, Result)
    for lost in range(len(ahead)):
        known = Parts()
        for frame in ahead[:lost] + ahead[lost + 1 :]:
            assert isinstance(frame, Artifacts)
            known.on_artifacts(frame)
        assert known.take("s1", last.results[0]) is None


def test_first_part_begins_again() -> None:
    *ahead, last = received(ended(7, File("a", bytes(WHOLE))))
    known = Parts()
    for frame in (ahead[0], *ahead):
        assert isinstance(frame, Artifacts)
        known.on_artifacts(frame)
    assert isinstance(last, Result)
    assert known.take("s1", last.results[0]) == (File("a", bytes(WHOLE)),)


def test_parts_in_memory_are_bounded() -> None:
    known = Parts()
    for run in range(1, 2 * PARTS_BYTES_MAX // WHOLE):
        for n, frame in enumerate(parts.frames("s1", (ended(run, File("a", bytes(WHOLE))),))[:-1]):
            assert isinstance(frame, Artifacts)
            assert frame.n == n
            known.on_artifacts(frame)
    assert known._size <= PARTS_BYTES_MAX
    # The latest are those that are kept.
    assert known.take("s1", ended(run, parts=n + 1)) is not None


def test_parts_of_one_run_are_bounded() -> None:
    known = Parts()
    for n in range(4):
        known.on_artifacts(Artifacts(s="s1", run=1, n=n, files=(File(f"{n}", bytes(WHOLE // 2)),)))
    assert known.take("s1", ended(1, parts=4)) is None
    known.on_artifacts(Artifacts(s="s1", run=1, n=0, files=tuple(File(str(n), b"") for n in range(FILES_MAX + 1))))
    assert known.take("s1", ended(1, parts=1)) is None


# --- the scheduler ---------------------------------------------------------------------------------------------------


def submit(world: World, **fields: Any) -> JobId:
    reply = world.ask(Submit((spec(**fields),), TEST))
    assert isinstance(reply, Made)
    return reply.ids[0]


def able(world: World) -> Peer:
    worker = Peer(world)
    worker.can = ("artifacts", "files", "stdin")
    return worker.join()


def test_files_go_to_the_worker_with_the_run(world: World) -> None:
    w1 = able(world)
    submit(world, files={"a": "hi"}, artifacts=["out/*"])
    frame = world.sent(Dispatch)
    (order,) = frame.runs
    assert (order.files, order.artifacts) == ((File("a", b"hi"),), ("out/*",))
    assert w1.finish(order.run) == "stored"


def test_runs_with_full_inputs_fit_a_frame(world: World) -> None:
    worker = Peer(world, slots=64)
    worker.can = ("artifacts", "files", "stdin")
    one = spec(files={"a": "x" * WHOLE}, stdin="x" * WHOLE)
    world.ask(Submit((one,) * 6, TEST))
    worker.join()
    frames = []
    while sent := world.sent_to(worker.peer):
        frames += sent
        world.turn()
    runs = [len(frame.runs) for frame in frames if isinstance(frame, Dispatch)]
    assert sum(runs) == 6
    assert max(runs) <= CLAIM_INPUT_RUNS_MAX // 2
    for frame in frames:
        assert len(pack(frame)) < 8 * 1024 * 1024


def test_worker_without_the_feature_gets_no_such_job(world: World) -> None:
    w1 = Peer(world).join()
    job = submit(world, artifacts=["a"])
    assert w1.take() == []
    assert world.states(job) == ["pending"]


def test_result_is_not_acked_until_its_artifacts_are_here(world: World) -> None:
    w1 = able(world)
    job = submit(world, artifacts=["a"])
    run = w1.take_one()
    frames = parts.frames(w1.session, (ended(run, File("a", bytes(WHOLE)), detail=""),))
    w1.say(*frames[1:])
    world.sent()
    assert world.states(job) == ["running"]
    w1.say(*frames)
    assert world.sent(ResultAck).verdicts == ((run, "stored"),)
    assert [file.size for file in world.store.reads.artifacts(world.run(run).run_id)] == [WHOLE]


def test_parts_of_a_turn_that_failed_are_sent_again(world: World) -> None:
    w1 = able(world)
    job = submit(world, artifacts=["a"])
    run = w1.take_one()
    frames = parts.frames(w1.session, (ended(run, File("a", bytes(WHOLE))),))
    for frame in frames:
        world.hear_in_failing_turn(w1.peer, frame)
    assert world.states(job) == ["running"]
    w1.say(*frames)
    assert world.sent(ResultAck).verdicts == ((run, "stored"),)
    w1.say(*frames)
    assert world.sent(ResultAck).verdicts == ((run, "duplicate"),)
    assert len(world.engine.execute("SELECT run_id FROM artifacts")) == 1


def test_artifacts_that_were_left_out_leave_an_event(world: World) -> None:
    w1 = able(world)
    job = submit(world, artifacts=["a"])
    run = w1.take_one()
    w1.say(Result(s=w1.session, results=(ended(run, File("../a", b""), left_out=2, detail="too large"),)))
    world.sent(ResultAck)
    assert world.events("artifacts_left_out") == [(job, None, f"run {run}: too large")]
    assert world.states(job) == ["success/exit"]
    assert world.store.reads.artifacts(world.run(run).run_id) == []


def test_artifacts_of_a_lost_run_are_not_stored(world: World) -> None:
    w1 = able(world)
    job = submit(world, artifacts=["a"])
    run = w1.take_one()
    w1.start(run)
    world.wait(31_000)
    w1.session = w1.register().s
    world.sent()
    w1.say(Result(s=w1.session, results=(ended(run, File("a", b"late")),)))
    assert world.sent(ResultAck).verdicts == ((run, "stale"),)
    assert world.states(job)[0] == "failed/worker_lost"
    assert world.engine.execute("SELECT run_id FROM artifacts") == []


def test_polling_worker_reports_artifacts(world: World) -> None:
    r1 = Poller(world, can=("files", "artifacts")).register()
    job = submit(world, files={"a": "hi"}, artifacts=["b"])
    claimed = r1.next_run()
    assert claimed.files == (File("a", b"hi"),)
    r1.artifacts = (File("b", b"ho"),)
    run = r1.report(job, RunStatus.SUCCESS, 0)
    assert world.store.reads.artifact(run, "b") == b"ho"
