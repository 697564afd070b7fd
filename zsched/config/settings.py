"""The settings of each program: name, type, default and meaning of each.

From an attribute of a configuration follow the flag (`-worker-timeout`), the INI entry (`worker_timeout`), the variable
(`ZSCHED_SCHEDULER_WORKER_TIMEOUT`). Tests hold the manual pages in commands/ and the files in conf/ against this.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, Literal, TypeVar, cast

from zsched.config import values
from zsched.model.address import PostgresUrl
from zsched.model.limits import PENDING_RUNS_MAX, SLOTS_MAX
from zsched.model.requirements import Pairs
from zsched.model.units import parse_size_bytes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key:
    """One setting of a section. `field` is its attribute in the configuration. `default` is its text, or empty if `why`
    says how the value is derived.
    """

    section: str
    field: str
    default: str
    metavar: str
    parse: Callable[[str], object]
    why: str

    @property
    def name(self) -> str:
        """The name in INI files: `worker_timeout`, without the unit of the attribute."""
        return self.field.removesuffix("_ms")

    @property
    def flag(self) -> str:
        """The flag's long name, without dashes: `worker-timeout`."""
        return self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The name in the environment: `ZSCHED_SCHEDULER_WORKER_TIMEOUT`."""
        return f"ZSCHED_{self.section}_{self.name}".upper()


def setting(default: str, metavar: str, parse: Callable[[str], T], why: str) -> T:
    """The dataclass field of a setting. Its default is parsed, unless it is derived or a path, which needs a folder."""
    metadata = {"default": default, "metavar": metavar, "parse": parse, "why": why}
    with suppress(ValueError):
        value = parse(default)
        if not isinstance(value, Path):
            return field(default=value, metadata=metadata)
    return cast("T", field(metadata=metadata))


_port = values.count(0, 65_535)
_LEVELS = "least urgent line that is logged: DEBUG, INFO, WARN or ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """The configuration of a scheduler. Paths are absolute."""

    db: Path | PostgresUrl = setting(
        "scheduler.db",
        "DATABASE",
        values.database,
        "the file of the SQLite database, or the URL of a PostgreSQL one: postgresql://USER@HOST/DATABASE",
    )
    data_dir: Path | None = setting(
        "",
        "DIR",
        values.optional_path,
        "this scheduler's own folder for its keys, lock and socket; required with PostgreSQL, and not used with SQLite,"
        " where it is the file's name with .d",
    )
    host: str = setting(
        "0.0.0.0",  # noqa: S104 (each request is authorized)
        "HOST",
        values.line,
        "address that REST listens on",
    )
    port: int = setting("8080", "PORT", _port, "port that REST listens on; 0 takes any free one")
    zmq_host: str = setting(
        "",
        "HOST",
        values.optional_line,
        "address that workers connect to by ZeroMQ; empty: loopback, and all once a worker of another host has a key",
    )
    zmq_port: int = setting("5555", "PORT", _port, "port that workers connect to by ZeroMQ; 0 takes any free one")
    zmq_advertise: str = setting(
        "",
        "HOST",
        values.optional_line,
        "host that workers connect to; when empty the one that they called",
    )
    advertise: str = setting(
        "",
        "URL",
        values.advertised,
        "URL of this scheduler for callers, which the others on a PostgreSQL database name them; when empty"
        " http://HOST:PORT, by the name of this machine",
    )
    worker_security: str = setting(
        "curve",
        "WORD",
        values.one_of("curve", "none"),
        "curve: workers need a key; none: they need none, and zmq_host is a loopback address",
    )
    local_trust: str = setting(
        "",
        "WORD",
        values.optional_word("uid", "socket", "any", "none"),
        "programs on this host that need no token: uid (own user, root, local_uids), socket (these by the Unix socket"
        " only), any, none; when empty uid, and socket in a user namespace that lacks users",
    )
    local_uids: frozenset[int] = setting(
        "", "UIDS", values.uids, "numbers of other users on this host that need no token, such as 1000,1001"
    )
    admin_token_file: Path | None = setting(
        "",
        "FILE",
        values.optional_path,
        "a file (0600) with a token that may do all, stored at each start; for containers",
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = setting(
        "",
        "NETS",
        values.networks,
        "proxies with a trusted X-Forwarded-For, for events and the log, such as 127.0.0.1,10.1.0.0/16",
    )
    insecure: bool = setting("no", "WORD", values.yes_no, "yes: every caller may do everything without a token")
    worker_timeout_ms: int = setting(
        "30s",
        "DURATION",
        values.duration_ms(1_000),
        "a worker silent for longer is lost, and its runs start again elsewhere; at least 1s",
    )
    pending_max: int = setting(
        "2000000", "COUNT", values.count(1, PENDING_RUNS_MAX), "runs that may be pending; a submit beyond it gets 429"
    )
    keep_success_ms: int | Literal["never"] | None = setting(
        "",
        "DURATION",
        values.keep,
        "how long jobs that succeeded are kept after their end, or never to remove none; when empty 7d, and never in a"
        " database of an earlier release",
    )
    keep_others_ms: int | Literal["never"] | None = setting(
        "",
        "DURATION",
        values.keep,
        "the same for jobs that failed or were cancelled; when empty 30d, or never as above",
    )
    threads: int = setting("16", "COUNT", values.count(1, 1_024), "requests answered at the same time")
    log_level: str = setting("INFO", "LEVEL", values.level, _LEVELS)

    @property
    def folder(self) -> Path:
        """The folder of keys, lock and socket."""
        if isinstance(self.db, Path):
            return self.db.with_name(f"{self.db.name}.d")
        assert self.data_dir is not None
        return self.data_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """The configuration of a worker. Paths are absolute."""

    id: str = setting(
        "",
        "NAME",
        values.worker_name,
        "the worker's name, unique among the workers of a scheduler; required unless the access file names it",
    )
    scheduler: tuple[str, ...] = setting(
        "",
        "URLS",
        values.schedulers,
        "the scheduler: http, https, unix:/PATH, or with access tcp://host:5555; several with commas; empty: its socket"
        " on this host, or http://localhost:8080",
    )
    access: Path | None = setting(
        "",
        "FILE",
        values.optional_path,
        "what `zsched access new` wrote for this worker; needed on another host than the scheduler's",
    )
    token_file: Path | None = setting(
        "",
        "FILE",
        values.optional_path,
        "a file (0600) with a token of scope worker, by which it may enrol from elsewhere",
    )
    slots: int = setting(
        "0", "COUNT", values.count(0, SLOTS_MAX), "runs at the same time; 0 takes the CPUs that the worker may use"
    )
    queues: tuple[str, ...] = setting(
        "default",
        "QUEUES",
        values.queues,
        "queues whose jobs the worker runs, such as default,nightly; * for all",
    )
    labels: Pairs = setting(
        "",
        "LABELS",
        values.labels,
        "what jobs can ask of their worker, such as gpu=a100,disk=ssd, besides the labels worker and host",
    )
    poll_interval_ms: int = setting(
        "5s", "DURATION", values.duration_ms(100), "how often an idle worker reports that it is ready"
    )
    heartbeat_interval_ms: int = setting(
        "10s",
        "DURATION",
        values.duration_ms(100),
        "heartbeat interval; at most a third of the scheduler's worker_timeout",
    )
    shutdown_grace_ms: int = setting(
        "30s", "DURATION", values.duration_ms(0), "how long SIGTERM lets running jobs finish before it stops them"
    )
    state_dir: Path = setting(
        "",
        "DIR",
        values.derived_path,
        "results wait here until stored; when empty $XDG_STATE_HOME/zsched/HOST_PORT/ID, by the scheduler's address; of"
        " several the first in the alphabet that exists, else the first",
    )
    users: tuple[str, ...] = setting(
        "",
        "NAMES",
        values.users,
        "users that jobs may run as, such as alice,bob (needs root); when empty all run as the worker's own user",
    )
    umask: int = setting(
        "077", "UMASK", values.umask, "which rights files that a job makes don't have; 077: they are its user's alone"
    )
    no_new_privs: bool = setting(
        "yes", "WORD", values.yes_no, "yes: no job gets more rights by sudo or another setuid program"
    )
    job_nofile: int | None = setting(
        "",
        "COUNT",
        values.optional(values.count(16, 999_999_999)),
        "open files that each process of a job may have; when empty as many as the worker could when it started",
    )
    job_nproc: int | None = setting(
        "",
        "COUNT",
        values.optional(values.count(1, 999_999_999)),
        "processes that a job's user may have on this host (root: no limit); when empty as the worker",
    )
    job_core: int | None = setting(
        "",
        "SIZE",
        values.optional(parse_size_bytes),
        "bytes of a core file that a job's process may leave, such as 0 or 64MiB; when empty as the worker",
    )
    log_level: str = setting("INFO", "LEVEL", values.level, _LEVELS)


_SECTIONS: Final = {"scheduler": SchedulerConfig, "worker": WorkerConfig}
SECTIONS: Final = tuple(_SECTIONS)
KEYS: Final = tuple(
    Key(section, entry.name, **entry.metadata) for section, config in _SECTIONS.items() for entry in fields(config)
)


def keys_of(section: str) -> tuple[Key, ...]:
    """The keys of one section, in the table's order."""
    return tuple(key for key in KEYS if key.section == section)
