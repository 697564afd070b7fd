"""The table of settings, and the layers they are read from: INI files, the environment, flags.

KEYS declares every setting once; its flag, its INI entry, its environment variable and what `config show` prints all
come from it. Later layers win: defaults, /etc/zsched/*.ini, $XDG_CONFIG_HOME/zsched/*.ini, --config FILE, ZSCHED_*,
flags. Called by config.py, which makes dataclasses of what wins here. Prints nothing, makes no files; a wrong setting
is a ConfigError.
"""

from __future__ import annotations

import configparser
import difflib
import os.path
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from zsched.model.limits import NAME_CHARS_MAX, PENDING_RUNS_MAX, SLOTS_MAX
from zsched.model.names import USER_NAME, WORKER_NAME
from zsched.model.units import format_duration_ms, parse_duration_ms, parse_size_bytes
from zsched.security.endpoint import EndpointError, socket_path

SYSTEM_FOLDER: Final = Path("/etc/zsched")
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARN", "ERROR")

# A file of settings is read whole. Ours have a page; a larger one is something else by mistake, and an error.
INI_BYTES_MAX: Final = 1024 * 1024


class ConfigError(Exception):
    """A setting is wrong. The text is one line for the person who made it; the program exits 2."""


@dataclass(frozen=True, slots=True)
class Key:
    """One setting. `default` is what a person would write, empty when `why` tells how it is derived."""

    section: str
    name: str
    default: str
    metavar: str
    parse: Callable[[str], object]
    why: str

    @property
    def flag(self) -> str:
        """The flag's long name, without dashes: `worker-timeout`."""
        return self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The name in the environment: `ZSCHED_SCHEDULER_WORKER_TIMEOUT`."""
        return f"ZSCHED_{self.section}_{self.name}".upper()


@dataclass(frozen=True, slots=True)
class Setting:
    """A key's text as it was given, where it came from, and the folder that a relative path in it counts from. `file`:
    the INI file that it came from, if it came from one.
    """

    key: Key
    text: str
    origin: str
    folder: Path
    file: Path | None = None


# --- What a value may be: text in, value out, ValueError with a sentence that ends in the remedy ----------------------


def _line(text: str) -> str:
    if not text or not text.isprintable() or len(text) > NAME_CHARS_MAX:
        raise ValueError(f"must be 1 to {NAME_CHARS_MAX} printable characters")
    return text


def _worker_name(text: str) -> str:
    if not WORKER_NAME.fullmatch(text):
        raise ValueError(
            f"invalid worker name {text!r}: use 1 to 128 letters, digits, . _ @ : and -, a letter or digit first"
        )
    return text


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("must name a file or folder")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("must be UTF-8")
    return text


def _optional_path(text: str) -> str:
    return text and _path(text)


def _count(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError(f"{text!r} is not a number from {least} to {most}")
        return int(text)

    return parse


def _duration_ms(least_ms: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        duration_ms = parse_duration_ms(text)
        if duration_ms < least_ms:
            raise ValueError(f"{text!r} is too short; give at least {format_duration_ms(least_ms)}")
        return duration_ms

    return parse


def _level(text: str) -> str:
    level = "WARN" if text.upper() == "WARNING" else text.upper()
    if level not in LOG_LEVELS:
        raise ValueError(f"{text!r} is no log level; give one of {', '.join(LOG_LEVELS)}")
    return level


def _scheduler(text: str) -> str:
    """A scheduler's URL in its one form, or empty for the default endpoint."""
    if not text:
        return ""
    if text.startswith("unix:"):
        try:
            return f"unix:{socket_path(text)}"
        except EndpointError as error:
            raise ValueError(str(error)) from error
    return _url(text)


def _url(text: str) -> str:
    sentence = f"{text!r} is no address of a scheduler; write it like http://localhost:8080"
    try:
        parts = urlsplit(text)
        sound = parts.port != 0 and text.isprintable() and " " not in text
        # As it is looked up: no empty part, none that is too long.
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise ValueError(sentence) from error
    if not sound or parts.scheme not in ("http", "https", "tcp") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(sentence)
    if parts.scheme == "tcp" and (parts.port is None or parts.path):
        raise ValueError(f"{text!r} is no address of a worker port; write it like tcp://host:5555")
    return text.rstrip("/")


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text

    return parse


def _optional_word(*words: str) -> Callable[[str], str]:
    return lambda text: text and _one_of(*words)(text)


def _flag_word(text: str) -> bool:
    return _one_of("yes", "no")(text) == "yes"


def _umask(text: str) -> int:
    if not re.fullmatch("0?[0-7]{3}", text, re.ASCII):
        raise ValueError(f"{text!r} is no umask; write it like 077 or 022")
    return int(text, 8)


def _uids(text: str) -> frozenset[int]:
    words = re.split(r"[\s,]+", text) if text else []
    if not all(re.fullmatch("[0-9]{1,10}", word, re.ASCII) and int(word) < 2**32 - 1 for word in words):
        raise ValueError(f"{text!r} is no list of user numbers; write it like 1000,1001")
    return frozenset(map(int, words))


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    words = re.split(r"[\s,]+", text.strip()) if text.strip() else []
    try:
        return tuple(ip_network(word) for word in words)
    except ValueError as error:
        raise ValueError(f"{error}; write addresses and networks like 127.0.0.1,10.1.0.0/16") from error


def _users(text: str) -> tuple[str, ...]:
    names = tuple(re.split(r"[\s,]+", text.strip())) if text.strip() else ()
    for name in names:
        if not USER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no user's name; write them like alice,bob")
    return names


def _optional(parse: Callable[[str], int]) -> Callable[[str], int | None]:
    return lambda text: parse(text) if text else None


def _optional_line(text: str) -> str:
    return text and _line(text)


# --- The table --------------------------------------------------------------------------------------------------------

_port = _count(0, 65_535)
_LEVELS = "least urgent line that is logged: DEBUG, INFO, WARN or ERROR"

# fmt: off
KEYS: Final = (
    Key("scheduler", "db", "scheduler.db", "FILE", _path,
        "the SQLite database; a second scheduler on it exits 75"),
    Key("scheduler", "host", "0.0.0.0", "HOST", _line,  # noqa: S104 (who may speak is decided for each request)
        "address that REST listens on"),
    Key("scheduler", "port", "8080", "PORT", _port,
        "port that REST listens on; 0 takes any free one"),
    Key("scheduler", "zmq_host", "", "HOST", _optional_line,
        "address that workers connect to by ZeroMQ; empty: loopback, and all once a worker of another host has a key"),
    Key("scheduler", "zmq_port", "5555", "PORT", _port,
        "port that workers connect to by ZeroMQ; 0 takes any free one"),
    Key("scheduler", "zmq_advertise", "", "HOST", _optional_line,
        "host that workers are told to connect to; when empty the one that they called"),
    Key("scheduler", "worker_security", "curve", "WORD", _one_of("curve", "none"),
        "curve: workers prove who they are by a key; none: they don't, and zmq_host is a loopback address"),
    Key("scheduler", "local_trust", "", "WORD", _optional_word("uid", "socket", "any", "none"),
        "programs on this host that need no token: uid (own user, root, local_uids), socket (these by the Unix socket"
        " only), any, none; when empty uid, and socket in a user namespace that lacks users"),
    Key("scheduler", "local_uids", "", "UIDS", _uids,
        "numbers of other users on this host who need no token, such as 1000,1001"),
    Key("scheduler", "admin_token_file", "", "FILE", _optional_path,
        "a file (0600) with a token that may do all, stored at each start; for containers"),
    Key("scheduler", "trusted_proxies", "", "NETS", _networks,
        "proxies whose X-Forwarded-For names the caller for events and the log, such as 127.0.0.1,10.1.0.0/16"),
    Key("scheduler", "insecure", "no", "WORD", _flag_word,
        "yes: everybody who reaches REST may do all without a token"),
    Key("scheduler", "worker_timeout", "30s", "DURATION", _duration_ms(1_000),
        "a worker silent for longer is lost, and its runs start again elsewhere; at least 1s"),
    Key("scheduler", "pending_max", "2000000", "COUNT", _count(1, PENDING_RUNS_MAX),
        "runs that may be pending; a submit beyond it gets 429"),
    Key("scheduler", "threads", "16", "COUNT", _count(1, 1_024),
        "requests answered at the same time"),
    Key("scheduler", "log_level", "INFO", "LEVEL", _level, _LEVELS),
    Key("worker", "id", "", "NAME", _worker_name,
        "the worker's name, unique among the workers of a scheduler; required unless the access file names it"),
    Key("worker", "scheduler", "", "URL", _scheduler,
        "the scheduler: http, https, unix:/PATH, or with access tcp://host:5555; empty: its socket on this host, or"
        " http://localhost:8080"),
    Key("worker", "access", "", "FILE", _optional_path,
        "what `zsched access new` wrote for this worker; needed on another host than the scheduler's"),
    Key("worker", "token_file", "", "FILE", _optional_path,
        "a file (0600) with a token of scope worker, by which it may enrol from elsewhere"),
    Key("worker", "slots", "0", "COUNT", _count(0, SLOTS_MAX),
        "runs at the same time; 0 takes the CPUs that the worker may use"),
    Key("worker", "poll_interval", "5s", "DURATION", _duration_ms(100),
        "how often an idle worker reports that it is ready"),
    Key("worker", "heartbeat_interval", "10s", "DURATION", _duration_ms(100),
        "heartbeat interval; at most a third of the scheduler's worker_timeout"),
    Key("worker", "shutdown_grace", "30s", "DURATION", _duration_ms(0),
        "how long SIGTERM lets running jobs finish before it stops them"),
    Key("worker", "state_dir", "", "DIR", _optional_path,
        "results wait here until stored; $XDG_STATE_HOME/zsched/HOST_PORT/ID when empty, by the scheduler's address"),
    Key("worker", "users", "", "NAMES", _users,
        "users that jobs may run as, such as alice,bob (needs root); when empty all run as the worker's own user"),
    Key("worker", "umask", "077", "UMASK", _umask,
        "which rights files that a job makes don't have; 077: they are its user's alone"),
    Key("worker", "no_new_privs", "yes", "WORD", _flag_word,
        "yes: no job gets more rights by sudo or another setuid program"),
    Key("worker", "job_nofile", "", "COUNT", _optional(_count(16, 999_999_999)),
        "open files that each process of a job may have; when empty as many as the worker could when it started"),
    Key("worker", "job_nproc", "", "COUNT", _optional(_count(1, 999_999_999)),
        "processes that a job's user may have on this host (root: no limit); when empty as the worker"),
    Key("worker", "job_core", "", "SIZE", _optional(parse_size_bytes),
        "bytes of a core file that a job's process may leave, such as 0 or 64MiB; when empty as the worker"),
    Key("worker", "log_level", "INFO", "LEVEL", _level, _LEVELS),
)
# fmt: on

SECTIONS: Final = tuple(dict.fromkeys(key.section for key in KEYS))


def keys_of(section: str) -> tuple[Key, ...]:
    """The keys of one section, in the table's order."""
    return tuple(key for key in KEYS if key.section == section)


# --- The layers -------------------------------------------------------------------------------------------------------


def settle(
    section: str,
    flags: Mapping[str, str],
    config_file: Path | None,
    environ: Mapping[str, str],
    system_folder: Path = SYSTEM_FOLDER,
) -> dict[str, Setting]:
    """The winning setting of every key of a section, by key name, in the table's order; values are not parsed yet.

    Raises ConfigError for a file that can't be read and for a key that nobody knows, in whichever section it stands.
    """
    here = Path.cwd()
    settled = {key.name: Setting(key, key.default, "default", here) for key in keys_of(section)}
    layers = [
        *(_file_settings(path) for path in ini_files(config_file, environ, system_folder)),
        _environment_settings(environ, here),
        _flag_settings(section, flags, here),
    ]
    for layer in layers:
        settled.update((setting.key.name, setting) for setting in layer if setting.key.section == section)
    return settled


def ini_files(config_file: Path | None, environ: Mapping[str, str], system_folder: Path) -> list[Path]:
    """The INI files that settings are read from; of these the last one counts."""
    user_folder = xdg_folder(environ, "XDG_CONFIG_HOME", ".config") / "zsched"
    found = [path for folder in (system_folder, user_folder) for path in sorted(folder.glob("*.ini"))]
    return found if config_file is None else [*found, config_file]


def _file_settings(path: Path) -> Iterator[Setting]:
    """The settings of one INI file, in file order. Raises ConfigError; also lazily, for a key that nobody knows."""
    # No section is a default for others, no value refers to another, and a `#` inside a value is part of it.
    parser = configparser.ConfigParser(
        interpolation=None, default_section="", delimiters=("=",), empty_lines_in_values=False
    )
    parser.optionxform = str  # type: ignore[method-assign, assignment]  # keys are taken as written
    try:
        with path.open("rb") as file:
            content = file.read(INI_BYTES_MAX + 1)
        if len(content) > INI_BYTES_MAX:
            raise ConfigError(f"{path}: larger than {INI_BYTES_MAX} bytes, so no file of settings")
        parser.read_string(content.decode("utf-8-sig"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 at byte {error.start}") from error
    except configparser.Error as error:
        raise ConfigError(_ini_sentence(path, error)) from error
    folder = Path(os.path.abspath(path)).parent
    for section in parser.sections():
        if section not in SECTIONS:
            raise ConfigError(f"{path}: no section [{section}]{_suggestion(section, SECTIONS, '[{}]')}")
        for name, text in parser[section].items():
            key = _known(section, name, f"{path} [{section}]: no key {name}", [key.name for key in keys_of(section)])
            yield Setting(key, text, f"{path} [{section}]", folder, path)


def _environment_settings(environ: Mapping[str, str], here: Path) -> Iterator[Setting]:
    """What ZSCHED_<SECTION>_<KEY> says. An empty variable is none, and a job's own ZSCHED_… have no section's name."""
    for variable, text in environ.items():
        for section in SECTIONS:
            prefix = f"ZSCHED_{section}_".upper()
            if variable.startswith(prefix) and text:
                names = [key.variable for key in keys_of(section)]
                name = variable.removeprefix(prefix).lower()
                yield Setting(_known(section, name, f"no variable {variable}", names), text, variable, here)


def _flag_settings(section: str, flags: Mapping[str, str], here: Path) -> Iterator[Setting]:
    names = [f"-{key.flag}" for key in keys_of(section)]
    for flag, text in flags.items():
        yield Setting(_known(section, flag.replace("-", "_"), f"no flag -{flag}", names), text, f"-{flag}", here)


def _known(section: str, name: str, complaint: str, names: Iterable[str]) -> Key:
    for key in keys_of(section):
        if key.name == name:
            return key
    raise ConfigError(complaint + _suggestion(complaint.rpartition(" ")[2], names, "{}"))


def _suggestion(wrong: str, names: Iterable[str], form: str) -> str:
    """What to say after a name that nobody knows: the nearest one, or all."""
    names = list(names)
    near = difflib.get_close_matches(wrong, names, n=1)
    if near:
        return f"; did you mean {form.format(near[0])}?"
    return f"; there are {', '.join(form.format(name) for name in names)}"


def _ini_sentence(path: Path, error: configparser.Error) -> str:
    match error:
        case configparser.MissingSectionHeaderError():
            return f"{path}, line {error.lineno}: a setting before the first [section]"
        case configparser.DuplicateOptionError():
            return f"{path}, line {error.lineno}: {error.option} is given twice in [{error.section}]"
        case configparser.DuplicateSectionError():
            return f"{path}, line {error.lineno}: [{error.section}] is given twice"
        case configparser.ParsingError():
            return f"{path}, line {error.errors[0][0]}: neither a [section] nor `key = value`"
    return f"{path}: {' '.join(error.message.split())}"


def home_folder(environ: Mapping[str, str]) -> Path:
    # Without HOME the password file knows: a service often has no HOME.
    try:
        return Path(environ.get("HOME") or Path.home())
    except RuntimeError as error:
        raise ConfigError("no home folder is known: set HOME, or name the folders that are to be used") from error


def xdg_folder(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """A base folder as the XDG Base Directory Specification has it: a relative one is ignored."""
    folder = environ.get(variable, "")
    return Path(folder) if os.path.isabs(folder) else home_folder(environ) / default
