"""Which class image files are of, and which split they belong to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aecodec.imagefiles import relative
from aecodec.train.prepare import DataConfig


class Split(NamedTuple):
    """Which files serve what; each list in the order of the paths."""

    train: list[Path]
    validation: list[Path]
    test: list[Path]


def split(paths: Sequence[Path], root: Path, config: DataConfig) -> Split:
    """Divide files by a hash of their paths below `root`: more files never move the others."""
    parts = Split([], [], [])
    for path in paths:
        digest = hashlib.sha256(os.fsencode(relative(path, root))).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        if place < config.test:
            parts.test.append(path)
        elif place < config.test + config.validation:
            parts.validation.append(path)
        else:
            parts.train.append(path)
    return parts


def classes(root: Path) -> tuple[str, ...]:
    """The folders in the data folder, sorted; their places are the labels."""
    folders = (entry.name for entry in root.iterdir() if entry.is_dir())
    return tuple(sorted(name for name in folders if not name.startswith(".")))


def label(path: Path, root: Path, names: Sequence[str]) -> int:
    """Number of an image's class in `names`, as from `classes`; -1 for one in none of them."""
    parts = relative(path, root).split("/")
    return names.index(parts[0]) if len(parts) > 1 and parts[0] in names else -1
