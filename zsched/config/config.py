"""The configuration of a program: its settings from all layers, as a frozen dataclass.

Called by the programs in commands/. An invalid setting is a ConfigError: one line with the origin, the setting and the
remedy. Nothing here prints or exits.
"""

from __future__ import annotations

import hashlib
import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlsplit

from zsched.config.layers import SYSTEM_FOLDER, ConfigError, Setting, home_folder, ini_files, settle, xdg_folder
from zsched.config.settings import SchedulerConfig, WorkerConfig
from zsched.host import files
from zsched.model.address import PostgresUrl
from zsched.model.hosts import is_loopback
from zsched.model.limits import PLACE_CHARS_MAX
from zsched.model.names import WORKER_NAME
from zsched.security import access_file
from zsched.security.endpoint import URL_DEFAULT, default_socket

__all__ = ["ConfigError", "Loaded", "SchedulerConfig", "WorkerConfig", "scheduler_config", "worker_config"]


ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class Loaded(Generic[ConfigT]):
    """A configuration, the setting behind each of its values in the table's order, and the INI files that were read."""

    config: ConfigT
    settings: tuple[Setting, ...]
    files: tuple[Path, ...]

    def sources(self) -> list[str]:
        """Lines for the log: each file that was read, and its settings that are in effect."""
        names = {path: [setting.key.name for setting in self.settings if setting.file == path] for path in self.files}
        return [f"settings in effect from {path}: {', '.join(keys) or 'none'}" for path, keys in names.items()]


def scheduler_config(
    flags: Mapping[str, str],
    config_file: Path | None,
    environ: Mapping[str, str],
    system_folder: Path = SYSTEM_FOLDER,
) -> Loaded[SchedulerConfig]:
    """The configuration of a scheduler. `flags` are by long name without dashes: {"zmq-port": "5600"}.

    Raises ConfigError. Reads files, creates none.
    """
    values = _Values(settle("scheduler", flags, config_file, environ, system_folder), environ)
    host = values.text("zmq_host")
    if values.text("worker_security") == "none" and host and not is_loopback(host):
        raise ConfigError("worker_security none lets anybody be a worker: set zmq_host to 127.0.0.1 with it")
    config = SchedulerConfig(**values.all())
    if isinstance(config.db, PostgresUrl) and config.data_dir is None:
        raise ConfigError("missing data_dir: with PostgreSQL, name a folder for this scheduler's keys, lock and socket")
    return Loaded(
        config,
        tuple(values.settings.values()),
        tuple(ini_files(config_file, environ, system_folder)),
    )


def worker_config(
    flags: Mapping[str, str],
    config_file: Path | None,
    environ: Mapping[str, str],
    system_folder: Path = SYSTEM_FOLDER,
) -> Loaded[WorkerConfig]:
    """The configuration of a worker, as scheduler_config. Raises ConfigError, also if neither `id` nor an access file
    gives a name.
    """
    values = _Values(settle("worker", flags, config_file, environ, system_folder), environ)
    named, endpoints = _introduction(values)
    worker_id = values.text("id") if values.settings["id"].text else named
    schedulers = values.texts("scheduler")
    access = values.optional_path("access")
    if schedulers and schedulers[0].startswith("tcp:") and access is None:
        raise ConfigError(f"the scheduler {schedulers[0]} needs an access file: `zsched access new {worker_id}` there")
    state_dir = values.optional_path("state_dir") or _state_folder(schedulers or endpoints, worker_id, environ)
    return Loaded(
        WorkerConfig(**values.all(id=worker_id, state_dir=state_dir)),
        tuple(values.settings.values()),
        tuple(ini_files(config_file, environ, system_folder)),
    )


def _introduction(values: _Values) -> tuple[str, tuple[str, ...]]:
    """The worker's name and the schedulers' endpoints in the access file; both are empty without a file.

    Raises ConfigError if no `id` is set and the file has no valid name. With an `id`, the agent checks the file.
    """
    path, needed = values.optional_path("access"), not values.settings["id"].text
    if path is None and needed:
        raise ConfigError("a worker needs a name: give -id NAME, or -access FILE")
    try:
        named, endpoints = ("", ()) if path is None else access_file.introduction(path)
        if needed and not WORKER_NAME.fullmatch(named):
            raise ValueError("has no valid worker name")
    except (OSError, ValueError) as error:
        if not needed:
            return "", ()
        why = f"can't be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{values.describe('access')}: {path} {why}: make it with `zsched access new`") from None
    return named, endpoints


class _Values:
    """The values of a section. Each is parsed when it is read, so that an error can name its origin."""

    def __init__(self, settings: dict[str, Setting], environ: Mapping[str, str]) -> None:
        self.settings = settings
        self._environ = environ

    def text(self, name: str) -> str:
        value = self._parse(name)
        assert isinstance(value, str)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._parse(name)
        assert isinstance(value, tuple)
        return value

    def all(self, **derived: object) -> dict[str, Any]:
        """The arguments of the configuration: each setting by its attribute. `derived` values replace parsed ones."""
        return {
            setting.key.field: derived[name] if name in derived else self._value(name)
            for name, setting in self.settings.items()
        }

    def optional_path(self, name: str) -> Path | None:
        return self._path(name) if self.settings[name].text else None

    def _value(self, name: str) -> object:
        value = self._parse(name)
        return self._path(name) if isinstance(value, Path) else value

    def _path(self, name: str) -> Path:
        """The absolute path without links, so that a file has one name.

        Raises ConfigError for a link that another user may have created.
        """
        text = str(self._parse(name))
        if text == "~" or text.startswith("~/"):
            text = str(home_folder(self._environ)) + text[1:]
        try:
            return files.resolve(self.settings[name].folder / text)
        except files.InsecureError as error:
            raise ConfigError(f"{name}: {error}") from None
        except OSError as error:
            raise ConfigError(f"{name}: {text} can't be used: {error.strerror}") from None

    def describe(self, name: str) -> str:
        """A setting in an error message: its flag, its variable, or its place in a file."""
        setting = self.settings[name]
        return setting.origin if setting.file is None else f"{setting.origin} {name}"

    def _parse(self, name: str) -> object:
        setting = self.settings[name]
        try:
            return setting.key.parse(setting.text)
        except ValueError as error:
            raise ConfigError(f"{self.describe(name)}: {error}") from error


def _state_folder(schedulers: Sequence[str], worker: str, environ: Mapping[str, str]) -> Path:
    """The default state folder: named by the scheduler's address and by the worker.

    Of several addresses, the first in the alphabet with an existing folder counts, else the first one. So the order of
    a list does not matter, and another address may be added; only the counting address must stay in the list.
    """
    base = xdg_folder(environ, "XDG_STATE_HOME", ".local/state") / "zsched"
    folders = [base / place / worker for place in sorted({_place(url, environ) for url in schedulers or [""]})]
    return next((folder for folder in folders if folder.exists()), folders[0])


def _place(url: str, environ: Mapping[str, str]) -> str:
    """A scheduler's address as a folder name: `localhost_8080`, also for the default endpoint by its socket.

    Other sockets have the name of their folder and a part of the hash of their path: `scheduler.db.d_3f2a9c015b77`.
    """
    path = url.removeprefix("unix:")
    if not url or path == default_socket(environ):
        url = URL_DEFAULT
    elif path != url:
        folder = quote(os.path.basename(os.path.dirname(path)), safe="")[:PLACE_CHARS_MAX]
        return f"{folder}_{hashlib.sha256(path.encode()).hexdigest()[:12]}"
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return quote(f"{parts.hostname}_{port}", safe=":")
