"""Configuration: what a person writes, in which layer, and what comes of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import ValidationError, convert

from zsched.config import values
from zsched.config.config import ConfigError, scheduler_config, worker_config
from zsched.config.layers import settle
from zsched.config.settings import KEYS, Key, keys_of
from zsched.model.address import PostgresUrl
from zsched.model.fields import WorkerName
from zsched.model.limits import DURATION_MS_MAX, SIZE_BYTES_MAX
from zsched.model.names import WORKER_NAME
from zsched.model.units import (
    format_duration_ms,
    format_size_bytes,
    parse_duration_ms,
    parse_size_bytes,
)
from zsched.security.keys import Access, Server, new_pair, written_access

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, which is the working folder too."""
    folder = tmp_path.resolve() / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# --- Durations and sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        ("3s", 3_000),
        ("1m30s", 90_000),
        ("500ms", 500),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("1.5h", 5_400_000),
        ("0", 0),
        ("0s", 0),
        ("1d2h3m4s5ms", 93_784_005),
        ("1us", 1),
        ("999ns", 1),
    ],
)
def test_a_duration_reads_as_go_writes_it(text: str, duration_ms: int) -> None:
    assert parse_duration_ms(text) == duration_ms


@pytest.mark.parametrize(
    "text", ["", "3", "-3s", "+3s", "3 s", " 3s", "3s\n", "s", "3x", "1e3s", "٣s", ".5s", "1s1", "9" * 99 + "s"]
)
def test_a_duration_of_another_form_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid duration .*: write it like 500ms, 3s, 1m30s, 2h or 1d$"):
        parse_duration_ms(text)


def test_a_duration_longer_than_a_century_is_refused() -> None:
    with pytest.raises(ValueError, match="too long; the longest duration is 36525d"):
        parse_duration_ms("36526d")


@given(st.integers(0, DURATION_MS_MAX))
def test_a_written_duration_reads_back_the_same(duration_ms: int) -> None:
    assert parse_duration_ms(format_duration_ms(duration_ms)) == duration_ms


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("64MiB", 67_108_864), ("10MB", 10_000_000), ("512B", 512), ("1.5 KiB", 1_536), ("0", 0)]
)
def test_a_size_names_its_unit(text: str, size_bytes: int) -> None:
    assert parse_size_bytes(text) == size_bytes


@pytest.mark.parametrize("text", ["", "64", "64mib", "-1B", "1 PB", "MiB", "1MiB\n"])
def test_a_size_of_another_form_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid size .*: write it like 512KiB, 64MiB or 2GiB$"):
        parse_size_bytes(text)


@given(st.integers(0, SIZE_BYTES_MAX))
def test_a_written_size_reads_back_the_same(size_bytes: int) -> None:
    assert parse_size_bytes(format_size_bytes(size_bytes)) == size_bytes


# --- Layers -----------------------------------------------------------------------------------------------------------


def test_without_any_setting_a_scheduler_has_the_documented_defaults(home: Path) -> None:
    config = scheduler_config({}, None, {"HOME": str(home)}, home).config
    assert config.db == home / "scheduler.db"
    assert (config.host, config.port, config.zmq_host, config.zmq_port) == ("0.0.0.0", 8080, "", 5555)
    assert (config.worker_timeout_ms, config.threads, config.log_level) == (30_000, 16, "INFO")


def test_with_nothing_but_a_name_a_worker_has_the_documented_defaults(home: Path) -> None:
    config = worker_config({"id": "worker-1"}, None, {"HOME": str(home)}, home).config
    assert (config.id, config.scheduler, config.slots) == ("worker-1", (), 0)
    assert (config.poll_interval_ms, config.heartbeat_interval_ms) == (5_000, 10_000)
    assert (config.shutdown_grace_ms, config.log_level) == (30_000, "INFO")
    assert config.state_dir == home / ".local/state/zsched/localhost_8080/worker-1"


def test_worker_without_a_name_is_refused_with_the_ways_to_give_one(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"give -id NAME, or -access FILE"):
        worker_config({}, None, {"HOME": str(home)}, home)


def test_each_layer_wins_over_the_one_before(home: Path) -> None:
    system, user = home / "etc", home / "user"
    environ = {"HOME": str(home), "XDG_CONFIG_HOME": str(user)}
    flags: dict[str, str] = {}
    file = None

    def port() -> int:
        return scheduler_config(flags, file, environ, system).config.port

    assert port() == 8080
    write(system / "a.ini", "[scheduler]\nport = 1\n")
    assert port() == 1
    write(system / "b.ini", "[scheduler]\nport = 2\n")
    assert port() == 2
    write(user / "zsched/a.ini", "[scheduler]\nport = 3\n")
    assert port() == 3
    file = write(home / "mine.ini", "[scheduler]\nport = 4\n")
    assert port() == 4
    environ["ZSCHED_SCHEDULER_PORT"] = "5"
    assert port() == 5
    flags["port"] = "6"
    assert port() == 6


def test_each_value_knows_where_it_came_from(home: Path) -> None:
    file = write(home / "mine.ini", "[scheduler]\nthreads = 4\n[worker]\nslots = 1\n")
    loaded = scheduler_config({"zmq-port": "0"}, file, {"HOME": str(home), "ZSCHED_SCHEDULER_PORT": "9"}, home / "etc")
    origins = {setting.key.name: setting.origin for setting in loaded.settings}
    assert list(origins) == [key.name for key in keys_of("scheduler")]
    assert origins["host"] == "default"
    assert origins["threads"] == f"{file} [scheduler]"
    assert origins["port"] == "ZSCHED_SCHEDULER_PORT"
    assert origins["zmq_port"] == "-zmq-port"


def test_empty_variable_counts_as_unset(home: Path) -> None:
    assert scheduler_config({}, None, {"HOME": str(home), "ZSCHED_SCHEDULER_PORT": ""}, home).config.port == 8080


def test_variables_that_a_job_sees_are_not_settings(home: Path) -> None:
    names = ["JOB_ID", "RUN_ID", "ATTEMPT", "TASK", "ENTRY", "WORKER", "MESSAGE_FILE", "URL", "TOKEN", "PYTHON"]
    environ = {"HOME": str(home)} | {f"ZSCHED_{name}": "x" for name in names}
    assert worker_config({"id": "w"}, None, environ, home).config.id == "w"


# --- Paths ------------------------------------------------------------------------------------------------------------


def test_relative_path_counts_from_its_file_or_from_the_working_folder(home: Path) -> None:
    file = write(home / "conf/mine.ini", "[scheduler]\ndb = a.db\n")
    environ = {"HOME": str(home)}
    assert scheduler_config({}, file, environ, home / "etc").config.db == home / "conf/a.db"
    assert scheduler_config({"db": "b.db"}, file, environ, home / "etc").config.db == home / "b.db"
    environ["ZSCHED_SCHEDULER_DB"] = "c.db"
    assert scheduler_config({}, file, environ, home / "etc").config.db == home / "c.db"


def test_one_database_has_one_name_whichever_link_leads_to_it(home: Path) -> None:
    (home / "real").mkdir()
    (home / "link").symlink_to("real")
    config = scheduler_config({"db": "link/a.db"}, None, {"HOME": str(home)}, home).config
    assert config.db == home / "real/a.db"


def test_a_tilde_is_the_home_folder(home: Path) -> None:
    assert scheduler_config({"db": "~/x/a.db"}, None, {"HOME": "/somewhere"}, home).config.db == Path(
        "/somewhere/x/a.db"
    )


def test_the_state_folder_follows_xdg_state_home_unless_it_is_relative(home: Path) -> None:
    flags = {"id": "w", "scheduler": "https://example.org/zsched/"}
    absolute = worker_config(flags, None, {"HOME": str(home), "XDG_STATE_HOME": "/var/state"}, home).config
    assert absolute.state_dir == Path("/var/state/zsched/example.org_443/w")
    assert absolute.scheduler == ("https://example.org/zsched",)
    relative = worker_config(flags, None, {"HOME": str(home), "XDG_STATE_HOME": "state"}, home).config
    assert relative.state_dir == home / ".local/state/zsched/example.org_443/w"


def state_place(home: Path, scheduler: str, environ: dict[str, str]) -> str:
    config = worker_config({"id": "w", "scheduler": scheduler}, None, {"HOME": str(home), **environ}, home).config
    return config.state_dir.parent.name


def test_state_folder_has_one_name_by_socket_and_by_tcp(home: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(home)}
    for scheduler in ("", "http://localhost:8080", f"unix:{home}/zsched/default.sock"):
        assert state_place(home, scheduler, environ) == "localhost_8080"


def test_state_folder_of_another_socket_is_named_by_its_path(home: Path) -> None:
    names = [state_place(home, f"unix:/srv/{place}/api.sock", {}) for place in ("a/s.db.d", "b/s.db.d", "x" * 250)]
    assert len(set(names)) == 3
    assert re.fullmatch(r"s\.db\.d_[0-9a-f]{12}", names[0])
    assert max(map(len, names)) < 128
    # The two ways to write one socket.
    assert state_place(home, "unix:///srv/a/s.db.d/api.sock", {}) == names[0]


def test_list_of_schedulers_is_split_at_its_commas(home: Path) -> None:
    text = "http://a:8080/ , https://b/zsched,unix:/srv/x,y/api.sock, http://a:8080"
    config = worker_config({"id": "w", "scheduler": text}, None, {"HOME": str(home)}, home).config
    assert config.scheduler == ("http://a:8080", "https://b/zsched", "unix:/srv/x,y/api.sock")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("http://a:8080,", "invalid scheduler URL 'http://a:8080,'"),
        ("http://a:8080, b:8080", "invalid scheduler URL 'http://a:8080, b:8080'"),
        ("https://a,b", "invalid scheduler URL 'https://a,b'"),
        ("tcp://a:5555, http://b", "give tcp:// to all schedulers of a list, or to none"),
        (",".join(f"http://h{number}" for number in range(17)), "too many schedulers: 17; give at most 16"),
        ("tcp://a:5555, tcp://b:5555", "the scheduler tcp://a:5555 needs an access file"),
    ],
)
def test_invalid_list_of_schedulers_is_refused(home: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        worker_config({"id": "w", "scheduler": text}, None, {"HOME": str(home)}, home)


def test_state_folder_does_not_depend_on_the_order_of_a_list(home: Path) -> None:
    assert state_place(home, "http://b:8080, http://a:8080", {}) == "a_8080"
    assert state_place(home, "http://a:8080, http://b:8080", {}) == "a_8080"


def test_state_folder_stays_when_a_list_grows(home: Path) -> None:
    """From one scheduler to a list, and to a longer one, whichever address comes first."""
    (home / ".local/state/zsched/m_8080/w").mkdir(parents=True)
    for scheduler in ("http://m:8080", "http://m:8080, http://z:8080", "http://z:8080, http://a:8080, http://m:8080"):
        assert state_place(home, scheduler, {}) == "m_8080"
    # Another worker's folder does not count.
    (home / ".local/state/zsched/a_8080/other").mkdir(parents=True)
    assert state_place(home, "http://a:8080, http://m:8080", {}) == "m_8080"


def access_file(home: Path, endpoint: str = "tcp://jobs.example:5555", *others: str) -> str:
    pair = new_pair()
    servers = tuple(Server(other, pair.public) for other in others)
    path = write(home / "w2.access", written_access(Access("worker-2", endpoint, pair.public, pair, servers)))
    path.chmod(0o600)
    return str(path)


def test_access_file_decides_the_name_and_the_state_folder_of_a_worker(home: Path) -> None:
    flags = {"access": access_file(home)}
    config = worker_config(flags, None, {"HOME": str(home)}, home).config
    assert (config.id, config.scheduler) == ("worker-2", ())
    assert config.state_dir == home / ".local/state/zsched/jobs.example_5555/worker-2"
    moved = worker_config({**flags, "scheduler": "tcp://other:5600"}, None, {"HOME": str(home)}, home).config
    assert moved.state_dir == home / ".local/state/zsched/other_5600/worker-2"
    # A name that is given counts; the agent compares it with the file.
    assert worker_config({**flags, "id": "w9"}, None, {"HOME": str(home)}, home).config.id == "w9"


def test_access_file_with_several_schedulers_decides_the_state_folder(home: Path) -> None:
    flags = {"access": access_file(home, "tcp://b:5555", "tcp://a:5555")}
    config = worker_config(flags, None, {"HOME": str(home)}, home).config
    assert config.state_dir == home / ".local/state/zsched/a_5555/worker-2"


@pytest.mark.parametrize("text", ["", "[access]\n", "[access]\nworker = a b\nendpoint = tcp://h:1\n", "no file"])
def test_access_file_that_names_no_worker_is_named(home: Path, text: str) -> None:
    path = write(home / "w2.access", text)
    if text == "no file":
        path.unlink()
    with pytest.raises(ConfigError, match=r"^-access: .*/w2\.access .*: make it with `zsched access new`"):
        worker_config({"access": "w2.access"}, None, {"HOME": str(home)}, home)


# --- Wrong settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[scheduler]\nprot = 1\n", "[scheduler]: no key prot; did you mean port?"),
        ("[scheduler]\nworker-timeout = 3s\n", "[scheduler]: no key worker-timeout; did you mean worker_timeout?"),
        ("[worker]\nslts = 1\n", "[worker]: no key slts; did you mean slots?"),
        ("[DEFAULT]\nport = 1\n", ": no section [DEFAULT]; there are [scheduler], [worker]"),
        ("[sheduler]\nport = 1\n", ": no section [sheduler]; did you mean [scheduler]?"),
        ("port = 1\n", ", line 1: a setting before the first [section]"),
        ("[scheduler]\nport\n", ", line 2: neither a [section] nor `key = value`"),
        ("[scheduler]\nport = 1\nport = 2\n", ", line 3: port is given twice in [scheduler]"),
        ("[scheduler]\n[scheduler]\n", ", line 2: [scheduler] is given twice"),
        ("[scheduler]\nport = %(x)s\n", " [scheduler] port: invalid number '%(x)s': use 0 to 65535"),
    ],
)
def test_a_wrong_file_is_one_line_with_its_place_and_the_remedy(home: Path, text: str, sentence: str) -> None:
    file = write(home / "mine.ini", text)
    with pytest.raises(ConfigError) as caught:
        scheduler_config({}, file, {"HOME": str(home)}, home / "etc")
    assert str(caught.value).startswith(str(file))
    assert str(caught.value).endswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_file_that_can_not_be_read_is_named(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.ini: can't be read: No such file"):
        scheduler_config({}, home / "nowhere.ini", {"HOME": str(home)}, home)
    (home / "bytes.ini").write_bytes(b"[scheduler]\n\xff\n")
    with pytest.raises(ConfigError, match=r"bytes\.ini: is not UTF-8 at byte 12"):
        scheduler_config({}, home / "bytes.ini", {"HOME": str(home)}, home / "etc")


@pytest.mark.parametrize(
    ("flags", "environ", "sentence"),
    [
        ({"port": "65536"}, {}, "-port: invalid number '65536': use 0 to 65535"),
        ({"port": "٣"}, {}, "-port: invalid number '٣': use 0 to 65535"),
        ({"worker-timeout": "999ms"}, {}, "-worker-timeout: invalid duration '999ms': use at least 1s"),
        (
            {"worker-timeout": "3"},
            {},
            "-worker-timeout: invalid duration '3': write it like 500ms, 3s, 1m30s, 2h or 1d",
        ),
        ({"db": ""}, {}, "-db: must name a file or folder"),
        ({"db": "a\udcff"}, {}, "-db: must be UTF-8"),
        ({"prot": "1"}, {}, "no flag -prot; did you mean -port?"),
        (
            {},
            {"ZSCHED_SCHEDULER_LOG_LEVEL": "LOUD"},
            "ZSCHED_SCHEDULER_LOG_LEVEL: invalid log level 'LOUD': use DEBUG, INFO, WARN, ERROR",
        ),
        ({}, {"ZSCHED_SCHEDULER_PROT": "1"}, "no variable ZSCHED_SCHEDULER_PROT; did you mean ZSCHED_SCHEDULER_PORT?"),
    ],
)
def test_a_wrong_value_names_its_origin_and_the_remedy(
    home: Path, flags: dict[str, str], environ: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        scheduler_config(flags, None, {"HOME": str(home), **environ}, home)


@pytest.mark.parametrize(
    "url",
    ["localhost:8080", "ftp://x", "http://", "http://x:99999", "http://x:0", "http://x y", "http://x?q", "http://../x"],
)
def test_an_address_that_no_scheduler_can_have_is_refused(home: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"invalid scheduler URL .*: write it like http://localhost:8080$"):
        worker_config({"id": "w", "scheduler": url}, None, {"HOME": str(home)}, home)


@pytest.mark.parametrize("url", ["unix:", "unix:api.sock", "unix://host/api.sock", "unix:/a\nb"])
def test_socket_url_without_a_whole_path_is_refused(home: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"invalid scheduler socket .*: write it like unix:/PATH"):
        worker_config({"id": "w", "scheduler": url}, None, {"HOME": str(home)}, home)


@pytest.mark.parametrize(("text", "umask"), [("077", 0o077), ("0022", 0o022), ("000", 0)])
def test_a_umask_is_octal(home: Path, text: str, umask: int) -> None:
    assert worker_config({"id": "w", "umask": text}, None, {"HOME": str(home)}, home).config.umask == umask


@pytest.mark.parametrize("text", ["", "77", "078", "1077", "0o77", "-077", "077 "])
def test_invalid_umask_is_refused(home: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"invalid umask .*: write it like 077 or 022$"):
        worker_config({"id": "w", "umask": text}, None, {"HOME": str(home)}, home)


@given(st.text(max_size=140) | st.from_regex(r"[A-Za-z0-9._@:-]{0,130}", fullmatch=True))
def test_configuration_and_protocol_agree_on_what_a_worker_may_be_called(name: str) -> None:
    try:
        convert(name, WorkerName)
    except ValidationError:
        assert not WORKER_NAME.fullmatch(name)
    else:
        assert WORKER_NAME.fullmatch(name)


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("", []),
        ("127.0.0.1", ["127.0.0.1/32"]),
        (" 127.0.0.1, ::1 10.1.0.0/16,2001:db8::/32 ", ["127.0.0.1/32", "::1/128", "10.1.0.0/16", "2001:db8::/32"]),
    ],
)
def test_trusted_proxies_are_addresses_and_networks(home: Path, text: str, networks: list[str]) -> None:
    config = scheduler_config({"trusted-proxies": text}, None, {"HOME": str(home)}, home).config
    assert [str(network) for network in config.trusted_proxies] == networks


@pytest.mark.parametrize("text", ["localhost", "10.1.2.3/16", "127.0.0.1/33", "1", "127.0.0.1,,x", "*"])
def test_trusted_proxies_of_another_form_are_refused(home: Path, text: str) -> None:
    sentence = r"^-trusted-proxies: .*; write addresses and networks like 127\.0\.0\.1,10\.1\.0\.0/16$"
    with pytest.raises(ConfigError, match=sentence):
        scheduler_config({"trusted-proxies": text}, None, {"HOME": str(home)}, home)


@pytest.mark.parametrize(("text", "level"), [("debug", "DEBUG"), ("WARN", "WARN"), ("Warning", "WARN")])
def test_log_levels_are_forgiving_in_case(home: Path, text: str, level: str) -> None:
    assert scheduler_config({"log-level": text}, None, {"HOME": str(home)}, home).config.log_level == level


# --- The table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [key for key in KEYS if key.default], ids=lambda key: key.variable)
def test_every_default_is_a_value_that_its_key_accepts(key: Key) -> None:
    key.parse(key.default)


@pytest.mark.parametrize("section", ["scheduler", "worker"])
def test_the_file_in_conf_shows_every_key_with_its_default_and_why(section: str) -> None:
    text = (ROOT / "conf" / f"{section}.ini").read_text(encoding="utf-8")
    shown = re.findall(r"^# (.+)\n#(\w+) =(?: (.+))?$", text, re.MULTILINE)
    assert shown == [(key.why, key.name, key.default) for key in keys_of(section)]


@pytest.mark.parametrize("section", ["scheduler", "worker"])
def test_the_file_in_conf_loads_as_it_is_and_with_every_line_uncommented(home: Path, section: str) -> None:
    text = (ROOT / "conf" / f"{section}.ini").read_text(encoding="utf-8")
    defaults = {name: setting.text for name, setting in settle(section, {}, None, {"HOME": "/"}, home).items()}
    for version in (text, re.sub(r"^#(\w+ =)", r"\1", text, flags=re.MULTILINE)):
        settled = settle(section, {}, write(home / "all.ini", version), {"HOME": "/"}, home / "etc")
        assert {name: setting.text for name, setting in settled.items()} == defaults


# --- The database -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://", "postgresql://"),
        ("postgresql://?service=zsched", "postgresql://"),
        ("postgres://zsched:s3cret@db.example:5433/jobs", "postgresql://zsched@db.example:5433/jobs"),
        ("postgresql://zsched:s3%40cret@[2001:db8::1]/jobs", "postgresql://zsched@[2001:db8::1]/jobs"),
        ("postgresql://a:5432,b:5433/jobs?password=s3cret", "postgresql://a:5432,b:5433/jobs"),
        ("postgresql://%2Frun%2Fpostgresql/jobs?user=zsched&password=s3cret", "postgresql://%2Frun%2Fpostgresql/jobs"),
    ],
)
def test_database_url_is_shown_without_its_password(home: Path, url: str, shown: str) -> None:
    config = scheduler_config({"db": url, "data-dir": "own"}, None, {}, home / "etc").config
    assert config.db == PostgresUrl(url)
    assert str(config.db) == shown
    assert "cret" not in repr(config)
    assert config.folder == home / "own"


@pytest.mark.parametrize(
    "url",
    [
        *("postgresql://zsched:s3/cret@host/jobs", "postgresql://zsched:s3@cret@host/jobs"),
        *("postgresql://zsched:s3%cret@host/jobs", "postgresql://zsched:s3 cret@host/jobs"),
        *("postgresql://zsched:s3#cret@host/jobs", "postgresql://zsched:s3?cret@host/jobs"),
        *("postgresql://zsched:s3cret/jobs", "postgresql://u:s3cret@[::1]x/jobs", "postgresql://a:1,b:s3cret/jobs"),
    ],
)
def test_invalid_database_url_is_not_repeated(home: Path, url: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^-db: invalid database URL: write it like postgresql://USER@HOST:5432"
    ) as it:
        scheduler_config({"db": url, "data-dir": "own"}, None, {}, home / "etc")
    assert "cret" not in str(it.value)


def test_database_url_needs_a_data_folder(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"^missing data_dir: with PostgreSQL, name a folder"):
        scheduler_config({"db": "postgresql://"}, None, {}, home / "etc")


def test_folder_of_a_database_file_has_its_name(home: Path) -> None:
    for folder in ({}, {"data-dir": "elsewhere"}):
        config = scheduler_config({"db": "a.db", **folder}, None, {}, home / "etc").config
        assert (config.db, config.folder) == (home / "a.db", home / "a.db.d")


@pytest.mark.parametrize(
    ("text", "queues"), [("default", ("default",)), ("*", ("*",)), ("a, b  a", ("a", "b")), ("q.1_x-y", ("q.1_x-y",))]
)
def test_queues_of_a_worker_are_names_or_a_star(text: str, queues: tuple[str, ...]) -> None:
    assert values.queues(text) == queues


@pytest.mark.parametrize("text", ["", "a,", "-a", "a*", "a" * 65, ",".join(f"q{number}" for number in range(65))])
def test_invalid_queues_of_a_worker_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="queue"):
        values.queues(text)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", ()),
        ("gpu=a100", (("gpu", "a100"),)),
        ("zone=eu/1, disk=ssd  a=b=c", (("a", "b=c"), ("disk", "ssd"), ("zone", "eu/1"))),
    ],
)
def test_labels_of_a_worker_are_names_and_values(text: str, labels: tuple[tuple[str, str], ...]) -> None:
    assert values.labels(text) == labels


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ssd", "invalid label 'ssd': use a name of letters"),
        ("disk=", "invalid label 'disk=': use a name of letters"),
        ("=ssd", "invalid label '=ssd': use a name of letters"),
        ("worker=w2", "invalid label 'worker=w2': each worker has the labels worker and host"),
        ("host=h2", "invalid label 'host=h2': each worker has the labels worker and host"),
        ("a=1,a=2", "the label a has two values: give one of them"),
        (f"a={'b' * 65}", "each of at most 64"),
        (",".join(f"a{place}=1" for place in range(25)), "too many labels: 25; give at most 24"),
    ],
)
def test_invalid_labels_of_a_worker_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        values.labels(text)
