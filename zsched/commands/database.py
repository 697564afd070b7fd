"""The scheduler's database as commands use it: the settings that name it, and its errors as messages and exit codes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zsched.commands import exits, options

if TYPE_CHECKING:
    from zsched.config.config import SchedulerConfig


def settings(doc: str, db: str | None, folder: str | None) -> SchedulerConfig:
    """The settings of the scheduler with this database and data folder, where they are given. Invalid ones end the
    program as wrong usage of the command with this manual page.
    """
    from zsched.config.config import ConfigError, scheduler_config

    flags = {"db": db, "data-dir": folder}
    given = {name: text for name, text in flags.items() if text is not None}
    try:
        return scheduler_config(given, None, os.environ).config
    except ConfigError as error:
        options.fail(doc, str(error))


@contextmanager
def failures(subject: object) -> Iterator[None]:
    """Turn errors of a database and its files into Failure. `subject`: what fails."""
    from zsched.host.files import PrivateFileError
    from zsched.store.contract import (
        StoreError,
        StoreForeign,
        StoreLocked,
        StoreLoose,
        StoreMoved,
        StoreNewer,
        StoreUnsupported,
    )

    try:
        yield
    except StoreLocked as error:
        raise exits.Failure(f"{error}: stop it first", os.EX_TEMPFAIL) from None
    except (PrivateFileError, StoreLoose, StoreForeign, StoreMoved, StoreNewer, StoreUnsupported) as error:
        raise exits.Failure(str(error), os.EX_CONFIG) from None
    except StoreError as error:
        raise exits.Failure(f"{subject}: {error}", os.EX_IOERR) from None
