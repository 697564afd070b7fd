"""The configuration of each program: settled settings made into frozen dataclasses.

Called by the programs in commands/. The keys, their defaults and the layers they come from stand in settings.py, the
bounds that no deployment changes in limits.py. Nothing here prints or exits: what is wrong is a ConfigError of one line
that names the origin, the key and the remedy.
"""

from __future__ import annotations

import hashlib
import os.path
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import quote, urlsplit

from zsched.config.settings import (
    SYSTEM_FOLDER,
    ConfigError,
    Setting,
    home_folder,
    ini_files,
    settle,
    xdg_folder,
)
from zsched.host import files
from zsched.model.names import WORKER_NAME
from zsched.security import access_file
from zsched.security.endpoint import URL_DEFAULT, default_socket

__all__ = ["ConfigError", "Loaded", "SchedulerConfig", "WorkerConfig", "scheduler_config", "worker_config"]


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """What a scheduler runs with. Paths are absolute. A port of 0 means any free one, an empty `local_trust` that the
    namespace decides.
    """

    db: Path
    host: str
    port: int
    zmq_host: str
    zmq_port: int
    zmq_advertise: str
    worker_security: str
    local_trust: str
    local_uids: frozenset[int]
    admin_token_file: Path | None
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    insecure: bool
    worker_timeout_ms: int
    pending_max: int
    threads: int
    log_level: str


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker runs with. `state_dir` is absolute; `slots` 0 means the CPUs that this process may use; an empty
    `scheduler` means the default endpoint.
    """

    id: str
    scheduler: str
    slots: int
    poll_interval_ms: int
    heartbeat_interval_ms: int
    shutdown_grace_ms: int
    state_dir: Path
    log_level: str
    access: Path | None = None
    token_file: Path | None = None
    users: tuple[str, ...] = ()
    umask: int = 0o077
    no_new_privs: bool = True
    job_nofile: int | None = None
    job_nproc: int | None = None
    job_core: int | None = None


ConfigT = TypeVar("ConfigT")

# Of the name of a socket's folder, in the name of a state folder. What is longer is cut: a hash follows.
_PLACE_CHARS_MAX = 100


@dataclass(frozen=True)
class Loaded(Generic[ConfigT]):
    """A configuration together with the setting that gave each of its values, in the table's order, and the INI files
    that were read.
    """

    config: ConfigT
    settings: tuple[Setting, ...]
    files: tuple[Path, ...]

    def sources(self) -> list[str]:
        """For the log: each file that was read, and which of its settings are in effect."""
        names = {path: [one.key.name for one in self.settings if one.file == path] for path in self.files}
        return [f"settings in effect from {path}: {', '.join(found) or 'none'}" for path, found in names.items()]


def scheduler_config(
    flags: Mapping[str, str],
    config_file: Path | None,
    environ: Mapping[str, str],
    system_folder: Path = SYSTEM_FOLDER,
) -> Loaded[SchedulerConfig]:
    """Settle the [scheduler] section. `flags` are by long name without dashes: {"zmq-port": "5600"}.

    Raises ConfigError. Reads files, makes none.
    """
    values = _Values(settle("scheduler", flags, config_file, environ, system_folder), environ)
    db = values.path("db")
    security = values.text("worker_security")
    if security == "none" and values.text("zmq_host") and not _loopback(values.text("zmq_host")):
        raise ConfigError("worker_security none lets anybody be a worker: set zmq_host to 127.0.0.1 with it")
    return Loaded(
        SchedulerConfig(
            db=db,
            host=values.text("host"),
            port=values.number("port"),
            zmq_host=values.text("zmq_host"),
            zmq_port=values.number("zmq_port"),
            zmq_advertise=values.text("zmq_advertise"),
            worker_security=security,
            local_trust=values.text("local_trust"),
            local_uids=values.numbers("local_uids"),
            admin_token_file=values.optional_path("admin_token_file"),
            trusted_proxies=values.networks("trusted_proxies"),
            insecure=values.yes("insecure"),
            worker_timeout_ms=values.number("worker_timeout"),
            pending_max=values.number("pending_max"),
            threads=values.number("threads"),
            log_level=values.text("log_level"),
        ),
        tuple(values.settings.values()),
        tuple(ini_files(config_file, environ, system_folder)),
    )


def worker_config(
    flags: Mapping[str, str],
    config_file: Path | None,
    environ: Mapping[str, str],
    system_folder: Path = SYSTEM_FOLDER,
) -> Loaded[WorkerConfig]:
    """Settle the [worker] section, as scheduler_config does for a scheduler. Raises ConfigError, also for a worker that
    neither `id` nor an access file names.
    """
    values = _Values(settle("worker", flags, config_file, environ, system_folder), environ)
    named, endpoint = _introduction(values)
    worker_id = values.text("id") if values.settings["id"].text else named
    scheduler = values.text("scheduler")
    access = values.optional_path("access")
    if scheduler.startswith("tcp:") and access is None:
        raise ConfigError(f"the scheduler {scheduler} needs an access file: `zsched access new {worker_id}` there")
    folder = _state_folder(environ) / _place(scheduler or endpoint, environ) / worker_id
    return Loaded(
        WorkerConfig(
            id=worker_id,
            scheduler=scheduler,
            access=access,
            token_file=values.optional_path("token_file"),
            slots=values.number("slots"),
            poll_interval_ms=values.number("poll_interval"),
            heartbeat_interval_ms=values.number("heartbeat_interval"),
            shutdown_grace_ms=values.number("shutdown_grace"),
            state_dir=values.path("state_dir", default=folder),
            log_level=values.text("log_level"),
            users=values.names("users"),
            umask=values.number("umask"),
            no_new_privs=values.yes("no_new_privs"),
            job_nofile=values.optional_number("job_nofile"),
            job_nproc=values.optional_number("job_nproc"),
            job_core=values.optional_number("job_core"),
        ),
        tuple(values.settings.values()),
        tuple(ini_files(config_file, environ, system_folder)),
    )


def _introduction(values: _Values) -> tuple[str, str]:
    """The worker's name and the scheduler's endpoint in the access file; empty without one.

    Raises ConfigError when no `id` is set and the file names no worker. With an `id` the agent checks the file.
    """
    path, needed = values.optional_path("access"), not values.settings["id"].text
    if path is None and needed:
        raise ConfigError("a worker needs a name: give -id NAME, or -access FILE")
    try:
        named, endpoint = ("", "") if path is None else access_file.introduction(path)
        if needed and not WORKER_NAME.fullmatch(named):
            raise ValueError("names no worker")
    except (OSError, ValueError) as error:
        if not needed:
            return "", ""
        why = f"can't be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{values.named('access')}: {path} {why}: make it with `zsched access new`") from None
    return named, endpoint


class _Values:
    """The settled values of one section, each parsed when it is asked for, so that an error can name its origin."""

    def __init__(self, settings: dict[str, Setting], environ: Mapping[str, str]) -> None:
        self.settings = settings
        self._environ = environ

    def text(self, name: str) -> str:
        value = self._parse(name)
        assert isinstance(value, str)
        return value

    def number(self, name: str) -> int:
        value = self._parse(name)
        assert isinstance(value, int)
        return value

    def optional_number(self, name: str) -> int | None:
        value = self._parse(name)
        assert value is None or isinstance(value, int)
        return value

    def yes(self, name: str) -> bool:
        value = self._parse(name)
        assert isinstance(value, bool)
        return value

    def numbers(self, name: str) -> frozenset[int]:
        value = self._parse(name)
        assert isinstance(value, frozenset)
        return value

    def networks(self, name: str) -> tuple[IPv4Network | IPv6Network, ...]:
        value = self._parse(name)
        assert isinstance(value, tuple)
        return value

    def names(self, name: str) -> tuple[str, ...]:
        value = self._parse(name)
        assert isinstance(value, tuple)
        return value

    def optional_path(self, name: str) -> Path | None:
        return self.path(name) if self.text(name) else None

    def path(self, name: str, default: Path | None = None) -> Path:
        """The path, absolute and without links, so that one file has one name; `default` stands for an empty one.

        Raises ConfigError for a link that another user may have put there.
        """
        text = self.text(name)
        if not text:
            assert default is not None
            return default
        if text == "~" or text.startswith("~/"):
            text = str(home_folder(self._environ)) + text[1:]
        try:
            return files.resolve(self.settings[name].folder / text)
        except files.InsecureError as error:
            raise ConfigError(f"{name}: {error}") from None
        except OSError as error:
            raise ConfigError(f"{name}: {text} can't be used: {error.strerror}") from None

    def named(self, name: str) -> str:
        """A setting as an error names it: its flag, its variable, or its place in a file."""
        setting = self.settings[name]
        return setting.origin if setting.file is None else f"{setting.origin} {name}"

    def _parse(self, name: str) -> object:
        setting = self.settings[name]
        try:
            return setting.key.parse(setting.text)
        except ValueError as error:
            raise ConfigError(f"{self.named(name)}: {error}") from error


def _loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this host alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _state_folder(environ: Mapping[str, str]) -> Path:
    return xdg_folder(environ, "XDG_STATE_HOME", ".local/state") / "zsched"


def _place(url: str, environ: Mapping[str, str]) -> str:
    """A scheduler's address as a folder name: `localhost_8080`, also for the default endpoint, socket or not.

    Another socket has the name of its folder and a part of its path's hash: `scheduler.db.d_3f2a9c015b77`.
    """
    path = url.removeprefix("unix:")
    if not url or path == default_socket(environ):
        url = URL_DEFAULT
    elif path != url:
        folder = quote(os.path.basename(os.path.dirname(path)), safe="")[:_PLACE_CHARS_MAX]
        return f"{folder}_{hashlib.sha256(path.encode()).hexdigest()[:12]}"
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return quote(f"{parts.hostname}_{port}", safe=":")
