"""Which image files there are: those in a folder, those that a list names, a few of many."""

from __future__ import annotations

from pathlib import Path

from aecodec.errors import InputError, cause_of
from aecodec.pixels import image_endings


def find_images(folder: Path, *, below: bool = True) -> list[Path]:
    """The image files of a folder, sorted by path; none that is hidden or in a hidden folder.

    Args:
        folder: where to look.
        below: whether to look into its folders, too.

    Raises:
        InputError: the folder does not exist or holds no images.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder")
    endings = image_endings()
    paths = sorted(
        path
        for path in (folder.rglob("*") if below else folder.iterdir())
        if path.suffix.lower() in endings
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not paths:
        raise InputError(f"{folder}: no images in it")
    return paths


def relative(path: Path, root: Path) -> str:
    """A file's path below the data folder, with forward slashes on every system."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


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


def listed(file: Path, root: Path) -> list[Path]:
    """The images that a text file names, one path relative to `root` a line, sorted.

    Raises:
        InputError: the list cannot be read or is empty, or an image is missing or not below
            `root`.
    """
    if not root.is_dir():
        raise InputError(f"{root}: not a folder")
    try:
        text = file.read_text(encoding="utf-8", errors="surrogateescape")  # names are bytes
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {cause_of(error)}") from error
    if "\0" in text:
        raise InputError(f"{file}: not a text file")
    paths = sorted({root / line.strip() for line in text.split("\n") if line.strip()})
    if not paths:
        raise InputError(f"{file}: lists no images")
    for path in paths:
        if not path.resolve().is_relative_to(root.resolve()):
            raise InputError(f"{path}: is listed in {file}, but lies outside of {root}")
        if not path.is_file():
            raise InputError(f"{path}: is listed in {file}, but is not there")
    return paths
