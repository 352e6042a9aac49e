"""Which image files a folder has, which class they are of, and which split they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..pixels import image_endings
from .prepare import DataConfig


def find_images(folder: Path) -> list[Path]:
    """All image files below a folder, sorted by path; none that is hidden or in a hidden folder.

    Raises:
        InputError: the folder does not exist or holds no images.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder")
    endings = image_endings()
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in endings
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not paths:
        raise InputError(f"{folder}: no images in it")
    return paths


class Split(NamedTuple):
    """Which files serve what; each list in the order of the paths."""

    train: list[Path]
    validation: list[Path]
    test: list[Path]


def split(paths: Sequence[Path], root: Path, config: DataConfig) -> Split:
    """Divide files by a hash of their paths below `root`: more files never move the others."""
    parts = Split([], [], [])
    for path in paths:
        digest = hashlib.sha256(relative(path, root).encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        if place < config.test:
            parts.test.append(path)
        elif place < config.test + config.validation:
            parts.validation.append(path)
        else:
            parts.train.append(path)
    return parts


def relative(path: Path, root: Path) -> str:
    """A file's path below the data folder, with forward slashes on every system."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def classes(root: Path) -> tuple[str, ...]:
    """The folders in the data folder, sorted; their places are the labels."""
    folders = (entry.name for entry in root.iterdir() if entry.is_dir())
    return tuple(sorted(name for name in folders if not name.startswith(".")))


def spread(paths: list[Path], limit: int | None) -> list[Path]:
    """So many files, evenly spread; all if there is no limit.

    Raises:
        InputError: the limit leaves none.
    """
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} images leaves none")
    if limit is None or limit >= len(paths):
        return paths
    return [paths[i * len(paths) // limit] for i in range(limit)]


def label(path: Path, root: Path, names: Sequence[str]) -> int:
    """Number of an image's class in `names`, as from `classes`; -1 for one in none of them."""
    parts = relative(path, root).split("/")
    return names.index(parts[0]) if len(parts) > 1 and parts[0] in names else -1


def listed(file: Path, root: Path) -> list[Path]:
    """The images that a text file names, one path relative to `root` a line, sorted.

    Raises:
        InputError: the list cannot be read or is empty, or an image is missing or not below
            `root`.
    """
    if not root.is_dir():
        raise InputError(f"{root}: not a folder")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "not a text file"
        raise InputError(f"{file}: cannot be read: {cause}") from error
    paths = sorted({root / line.strip() for line in lines if line.strip()})
    if not paths:
        raise InputError(f"{file}: lists no images")
    for path in paths:
        if not path.resolve().is_relative_to(root.resolve()):
            raise InputError(f"{path}: is listed in {file}, but lies outside of {root}")
        if not path.is_file():
            raise InputError(f"{path}: is listed in {file}, but is not there")
    return paths
