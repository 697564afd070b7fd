"""Cuts the power of whoever keeps something on disk, and counts what was lost."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

from tests.faults.images import Image, Medium, images

log = logging.getLogger(__name__)

_MEMORY: Final = "/dev/shm"
# Images that are cut a second time, while they are opened and closed.
_AGAIN_SHARE: Final = 0.25


class LostError(Exception):
    """Something is missing that had been told."""


class CorruptError(Exception):
    """What is there makes no sense."""


@dataclass(slots=True)
class Tally:
    """What the images were like. `twice`: how many of them are of a second cut."""

    images: int = 0
    twice: int = 0
    lost: int = 0
    corrupt: int = 0
    sentences: list[str] = field(default_factory=list)


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder where a sync costs nothing, if there is such a place: the disk that loses power is a Medium."""
    with TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as folder:
        yield Path(folder)


def cut(
    medium: Medium,
    count: int,
    chance: Random,
    *,
    recorded: Callable[[Medium, Path], AbstractContextManager[None]],
    reopen: Callable[[Path], None],
    look: Callable[[Path, int], None],
) -> Tally:
    """Make so many images and look at each.

    `reopen` is a start after the cut and a clean end, in the folder that it is given; `recorded` watches it there.
    `look` starts as well, and raises LostError or CorruptError if not all is there of what was told by then.
    """
    tally = Tally()
    with in_memory() as place:
        for image in images(medium, count, chance):
            if chance.random() < _AGAIN_SHARE:
                tally.twice += 1
                image = _cut_again(image, place / "again", chance, recorded, reopen)
            _count(tally, image, place / "image", look)
    log.info(
        "%d operations, %d images, %d of them of a second cut: %d corrupt, %d lost what was told",
        len(medium.log), tally.images, tally.twice, tally.corrupt, tally.lost,
    )  # fmt: skip
    return tally


def _cut_again(
    image: Image,
    folder: Path,
    chance: Random,
    recorded: Callable[[Medium, Path], AbstractContextManager[None]],
    reopen: Callable[[Path], None],
) -> Image:
    image.lay(folder)
    medium = Medium(image.files)
    # What can't be opened is found when the image is looked at.
    with recorded(medium, folder), suppress(CorruptError):
        reopen(folder)
    shutil.rmtree(folder)
    (second,) = images(medium, 1, chance)
    return Image(image.at, image.told, second.files)


def _count(tally: Tally, image: Image, folder: Path, look: Callable[[Path, int], None]) -> None:
    tally.images += 1
    image.lay(folder)
    try:
        look(folder, image.told)
    except LostError as error:
        tally.lost += 1
        tally.sentences.append(f"cut {image.at}: {error}")
    except CorruptError as error:
        tally.corrupt += 1
        tally.sentences.append(f"cut {image.at}: {error}")
    finally:
        shutil.rmtree(folder)
