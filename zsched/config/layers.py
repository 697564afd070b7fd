"""The layers of settings: defaults, /etc/zsched/*.ini, $XDG_CONFIG_HOME/zsched/*.ini, --config FILE, ZSCHED_*
variables, flags.

A later layer wins. Prints nothing and creates no files. An unknown setting is a ConfigError.
"""

from __future__ import annotations

import configparser
import os.path
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zsched.config.settings import SECTIONS, Key, keys_of
from zsched.model.limits import INI_BYTES_MAX
from zsched.model.spelling import suggestion

SYSTEM_FOLDER: Final = Path("/etc/zsched")


class ConfigError(Exception):
    """A setting is invalid. The message is one line for a person; the program exits with code 2."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The text of a key, its origin, and the folder that relative paths are resolved in. `file`: the INI file of
    origin, or None.
    """

    key: Key
    text: str
    origin: str
    folder: Path
    file: Path | None = None


def settle(
    section: str,
    flags: Mapping[str, str],
    config_file: Path | None,
    environ: Mapping[str, str],
    system_folder: Path = SYSTEM_FOLDER,
) -> dict[str, Setting]:
    """The effective setting of every key of a section, by key name in the table's order. Values are not parsed yet.

    Raises ConfigError for a file that can't be read, and for an unknown key in any section.
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
    """The INI files to read, in the order of their precedence: a later one wins."""
    user_folder = xdg_folder(environ, "XDG_CONFIG_HOME", ".config") / "zsched"
    paths = [path for folder in (system_folder, user_folder) for path in sorted(folder.glob("*.ini"))]
    return paths if config_file is None else [*paths, config_file]


def _file_settings(path: Path) -> Iterator[Setting]:
    """The settings of one INI file in file order. Raises ConfigError, for an unknown key only when it is reached."""
    # No default section, no interpolation, and a `#` inside a value belongs to the value.
    parser = configparser.ConfigParser(
        interpolation=None, default_section="", delimiters=("=",), empty_lines_in_values=False
    )
    parser.optionxform = str  # type: ignore[method-assign, assignment]  # keys are taken as written
    try:
        with path.open("rb") as file:
            content = file.read(INI_BYTES_MAX + 1)
        if len(content) > INI_BYTES_MAX:
            raise ConfigError(f"{path}: larger than {INI_BYTES_MAX} bytes: name an INI file")
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
    """The settings in variables ZSCHED_<SECTION>_<KEY>. Empty ones, and a job's own ZSCHED_…, are ignored."""
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


def _known(section: str, name: str, complaint: str, names: Sequence[str]) -> Key:
    for key in keys_of(section):
        if key.name == name:
            return key
    raise ConfigError(complaint + _suggestion(complaint.rpartition(" ")[2], names, "{}"))


def _suggestion(wrong: str, names: Sequence[str], form: str) -> str:
    return "; " + suggestion(wrong, names, f"there are {', '.join(map(form.format, names))}", form=form)


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
    # A service often has no HOME: then the password database has it.
    try:
        return Path(environ.get("HOME") or Path.home())
    except RuntimeError as error:
        raise ConfigError("no home folder is known: set HOME, or set the folders that are needed") from error


def xdg_folder(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """A base folder of the XDG Base Directory Specification. Relative paths in the variable are ignored."""
    folder = environ.get(variable, "")
    return Path(folder) if os.path.isabs(folder) else home_folder(environ) / default
