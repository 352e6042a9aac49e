"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from aecodec.errors import OutputError, cause_of

StrPath = str | os.PathLike[str]

UNFINISHED = ".aecodec-*.part"
"""Hidden names of files that are being written."""

#: Part of the hidden names of unfinished files: a batch finds by it what a dead process left.
unfinished_tag: ContextVar[str] = ContextVar("unfinished_tag", default="")


def check_output(path: StrPath, *, overwrite: bool = False, source: StrPath | None = None) -> None:
    """Find out early that a file cannot be written; nothing is created.

    Args:
        path: the file to be written.
        overwrite: whether an existing file may be replaced.
        source: the file read from, which is never overwritten.

    Raises:
        OutputError: the file exists and may not be replaced, is the source, is
            no ordinary file, or its folder does not exist.
    """
    target = Path(path)
    if os.fspath(path).endswith(("/", os.sep)) and not target.is_dir():
        raise OutputError(f"{path}: there is no such folder")
    try:
        if source is not None and _same(source, target):
            raise OutputError(f"{target}: is the input itself; give another output")
        if target.is_dir():
            raise OutputError(f"{target}: is a folder")
        if target.exists() and not target.is_file():
            raise OutputError(f"{target}: is not an ordinary file")
        if os.path.lexists(target) and not overwrite:
            raise exists_already(target)
        if not target.parent.is_dir():
            raise OutputError(f"{target}: there is no folder {target.parent}")
    except OSError as error:
        raise OutputError(f"{target}: {cause_of(error)}") from error


def check_folder(path: StrPath) -> None:
    """Find out early that a folder cannot be made; nothing is created.

    Raises:
        OutputError: it, or what it would lie in, is there and no folder.
    """
    target = Path(path)
    try:
        there = next(one for one in (target, *target.absolute().parents) if one.exists())
    except OSError as error:
        raise OutputError(f"{target}: {cause_of(error)}") from error
    if not there.is_dir():
        raise OutputError(f"{there}: is not a folder")


def _same(source: StrPath, target: Path) -> bool:
    return os.path.exists(source) and target.exists() and os.path.samefile(source, target)


def write_bytes(path: StrPath, data: bytes | memoryview, *, overwrite: bool = False) -> None:
    """Write a file, whole or not at all; see `atomic_output`."""
    with atomic_output(path, overwrite=overwrite) as fp:
        fp.write(data)


def write_text(path: StrPath, text: str, *, overwrite: bool = False) -> None:
    """Write a file as UTF-8, names of files that are no text as the bytes they are."""
    write_bytes(path, text.encode(errors="surrogateescape"), overwrite=overwrite)


@contextmanager
def atomic_output(path: StrPath, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when the block ends without an error.

    Bytes go to a hidden file in the same folder, are flushed to the disk, and
    take the name in one step; after an error, or an interruption, nothing is
    left. Permission bits are those of any new file. A symbolic link is followed.

    Raises:
        OutputError: as `check_output`; or writing fails.
    """
    check_output(path, overwrite=overwrite)
    target = Path(os.path.realpath(path))
    hidden = target.with_name(f".aecodec-{unfinished_tag.get()}{secrets.token_hex(6)}.part")
    try:
        with open(hidden, "xb") as fp:
            yield fp
            fp.flush()
            os.fsync(fp.fileno())
        if overwrite:
            os.replace(hidden, target)
        else:
            _rename_new(hidden, target)
    except FileExistsError as error:
        raise exists_already(target) from error
    except OSError as error:
        raise OutputError(f"{os.fspath(path)}: {cause_of(error)}") from error
    finally:
        hidden.unlink(missing_ok=True)


def _rename_new(source: Path, target: Path) -> None:
    """Rename without ever replacing a file that appeared meanwhile, where the disk can do that."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links here (FAT, some network disks)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.replace(source, target)


def exists_already(target: StrPath) -> OutputError:
    """The error, to be raised, of a file or a URL that may not be replaced."""
    return OutputError(f"{target}: exists already; -f (overwrite=True) replaces it")
