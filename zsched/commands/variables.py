"""A job's own variables as `submit` and `run` take them: --env NAME=VALUE, --secret-env NAME or NAME=@FILE."""

from __future__ import annotations

import os
from collections.abc import Mapping

from zsched.client.client import View
from zsched.commands import exits, options
from zsched.model.names import VARIABLE_NAME


def plain(doc: str, found: Mapping[str, options.Value]) -> dict[str, str]:
    """Those of --env. Wrong usage ends the program."""
    made = {}
    for given in options.words(found, "--env"):
        name, equals, value = given.partition("=")
        if not equals or not VARIABLE_NAME.fullmatch(name):
            options.fail(doc, f"--env: {given.partition('=')[0]!r}: write it like NAME=VALUE")
        made[name] = value
    return made


def secret(doc: str, found: Mapping[str, options.Value]) -> dict[str, str]:
    """Those of --secret-env. A value on the command line, where other users see it, is wrong usage. Raises Failure."""
    made = {}
    for given in options.words(found, "--secret-env"):
        name, equals, source = given.partition("=")
        if not VARIABLE_NAME.fullmatch(name) or (equals and not source.startswith("@")):
            options.fail(doc, "--secret-env: write it like NAME, whose value your environment has, or like NAME=@FILE")
        value = _content(source[1:]) if equals else os.environ.get(name)
        if value is None:
            raise exits.Failure(f"--secret-env: your environment has no {name}; export it, or write {name}=@FILE")
        made[name] = value
    return made


def masked(body: View) -> View:
    """A job as it may be shown."""
    secrets = body.get("secret_env")
    return {**body, "secret_env": dict.fromkeys(secrets, "***")} if secrets else body


def _content(path: str) -> str:
    """A file's text, without the line's end that editors put last. Raises Failure."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except OSError as error:
        raise exits.Failure(f"--secret-env: can't read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise exits.Failure(f"--secret-env: {path} is not UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")
