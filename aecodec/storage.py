"""Where files lie: on this machine, behind a URL that fsspec knows, or in a pipe (`-`).

The codec itself reads and writes local files. `local_input` and `local_output` give it one for
every kind of name: URLs and pipes pass through a temporary file, and appear whole or not at all.
"""

from __future__ import annotations

import glob as globbing
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from aecodec.errors import (
    AecError,
    FormatError,
    InputError,
    MissingDependencyError,
    OutputError,
    cause_of,
    needing,
)
from aecodec.output import exists_already, unfinished_tag

log = logging.getLogger("aecodec")

PIPE = "-"
"""The name of standard input and output."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:/ is a disk
_MAGIC = re.compile(r"[*?[]")
_URL_MAGIC = re.compile(r"[*[]")  # a question mark begins a query


def is_url(name: str) -> bool:
    """Whether a name is a URL such as `s3://bucket/photo.png`."""
    return _URL.match(name) is not None


def plain(name: str) -> str:
    """A name with `file://` taken off, so that every URL left is a remote one.

    Raises:
        InputError: fsspec has nothing for this kind of URL, or needs another package for it.
    """
    if not is_url(name):
        return name
    system, path = _system(name)
    return str(path) if "file" in _protocols(system) else name


def join(folder: str, relative: PurePosixPath) -> str:
    """The name of a file below a folder, which may be a URL."""
    if is_url(folder):
        return f"{folder.rstrip('/')}/{relative}"
    return str(Path(folder, *relative.parts))


def base(name: str) -> str:
    """The last part of a name."""
    if is_url(name):
        return PurePosixPath(name).name
    return os.path.basename(os.path.abspath(name))


def absolute(name: str) -> str:
    """A local name as processes in other folders need it; URLs as they are."""
    return name if is_url(name) else os.path.abspath(name)


def is_folder(name: str) -> bool:
    """Whether there is such a folder; of a URL, anything with something below it is one."""
    if not is_url(name):
        return os.path.isdir(name)
    with _failing_as(InputError, name):
        system, path = _system(name)
        return bool(system.isdir(path))


def exists(name: str) -> bool:
    """Whether there is a file, or anything else, of this name."""
    if not is_url(name):
        return os.path.lexists(name)
    with _failing_as(InputError, name):
        system, path = _system(name)
        return bool(system.exists(path))


def is_pattern(name: str) -> bool:
    """Whether a name is a pattern such as `photos/**/*.png`, and not that of a file."""
    name = name.removeprefix("file://")
    if is_url(name):
        return _URL_MAGIC.search(name) is not None
    return _MAGIC.search(name) is not None and not os.path.lexists(name)


def walk(folder: str, *, recursive: bool) -> Iterator[tuple[str, PurePosixPath]]:
    """The files of a folder in a fixed order: each one's name, and its path below the folder.

    Hidden files and folders are left out, as are pipes and the like; links to folders are not
    followed.

    Raises:
        InputError: a remote folder cannot be listed.
    """
    if is_url(folder):
        with _failing_as(InputError, folder):
            system, path = _system(folder)
            found = system.find(path, maxdepth=None if recursive else 1)
            yield from _below(system, path.rstrip("/"), found)
        return

    def unreadable(error: OSError) -> None:
        log.warning("%s: %s; left out", error.filename, cause_of(error))

    for where, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and recursive)
        for name in sorted(names):
            path = os.path.join(where, name)
            # a link that leads nowhere is a file that cannot be read
            if not name.startswith(".") and (os.path.isfile(path) or not os.path.exists(path)):
                yield path, PurePosixPath(Path(path).relative_to(folder).as_posix())


def expand(pattern: str) -> Iterator[tuple[str, PurePosixPath]]:
    """The files that match a pattern: names, and paths below the part without wildcards.

    `**` stands for any number of folders. Wildcards do not match a leading dot.

    Raises:
        InputError: a remote folder cannot be listed.
    """
    if is_url(pattern):
        with _failing_as(InputError, pattern):
            system, path = _system(pattern)
            found = [one for one in system.glob(path) if system.isfile(one)]
            yield from _below(system, _fixed(path), found)
        return
    fixed = _fixed(Path(pattern).as_posix())
    for path in sorted(globbing.glob(pattern, recursive=True)):
        if os.path.isfile(path) or not os.path.exists(path):  # broken links fail in their turn
            below = PurePosixPath(Path(os.path.relpath(path, fixed or ".")).as_posix())
            if ".." in below.parts:
                raise InputError(f"{path}: leads out of its folder")
            yield path, below


def _fixed(pattern: str) -> str:
    """The folder in front of a pattern's first wildcard."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else "")


def _below(system: Any, root: str, found: Iterable[str]) -> Iterator[tuple[str, PurePosixPath]]:
    """Remote files with their paths below a root; object names that would lead out are refused."""
    for path in sorted(found):
        parts = [part for part in path[len(root) :].split("/") if part]
        if ".." in parts:
            raise InputError(f"{system.unstrip_protocol(path)}: leads out of its folder")
        if not any(part.startswith(".") for part in parts):
            yield system.unstrip_protocol(path), PurePosixPath(*parts)


def existing(folder: str) -> Callable[[str], bool]:
    """A test for files below a folder; a remote folder is listed once, not asked file by file."""
    if not is_url(folder):
        return os.path.lexists
    try:
        found = {name for name, _ in walk(folder, recursive=True)}
    except InputError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        found = set()
    system, _ = _system(folder)
    return lambda name: system.unstrip_protocol(system._strip_protocol(name)) in found


@contextmanager
def local_input(name: str) -> Iterator[Path]:
    """A local file with the bytes of a named one; errors about it bear the right name.

    Raises:
        InputError: the URL, or the pipe, cannot be read.
    """
    named_pipe = _is_named_pipe(name)  # which can be read once, and has no size
    if name != PIPE and not is_url(name) and not named_pipe:
        yield Path(name)
        return
    with _temporary("stdin" if name == PIPE else PurePosixPath(name).name) as path:
        with _failing_as(InputError, name), open(path, "wb") as fp:
            if name == PIPE:
                shutil.copyfileobj(sys.stdin.buffer, fp)
            elif named_pipe:
                with open(name, "rb") as pipe:
                    shutil.copyfileobj(pipe, fp)
            else:
                system, remote = _system(name)
                system.get_file(remote, fp.name)
        with _renamed(path, "standard input" if name == PIPE else name):
            yield path


@contextmanager
def local_output(name: str, *, ending: str, overwrite: bool, folders: bool) -> Iterator[Path]:
    """A local file to be written, which then goes where its name says.

    Args:
        name: local, a URL, or `-`.
        ending: of the file that goes to standard output, with its dot.
        overwrite: whether an existing remote file may be replaced. Who writes a local one
            sees to that himself.
        folders: whether missing local folders are made.

    Raises:
        OutputError: the URL exists, or cannot be written; no folder can be made.
    """
    if name != PIPE and not is_url(name):
        if name.endswith(("/", os.sep)) and not os.path.isdir(name):  # `Path` drops it
            raise OutputError(f"{name}: there is no such folder")
        if folders:
            with _failing_as(OutputError, name):
                os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        yield Path(name)
        return
    shown = "standard output" if name == PIPE else name
    with _temporary(f"stdout{ending}" if name == PIPE else PurePosixPath(name).name) as path:
        if name != PIPE and not overwrite and exists(name):
            raise exists_already(name)
        with _renamed(path, shown):
            yield path
        if name == PIPE:
            with open(path, "rb") as fp:  # not _failing_as: a closed pipe has its own exit code
                shutil.copyfileobj(fp, sys.stdout.buffer)
                sys.stdout.buffer.flush()
        else:
            with _failing_as(OutputError, name), open(path, "rb") as fp:
                _upload(fp, name)


def _upload(fp: Any, name: str) -> None:
    """Write a remote file, which appears when the transaction ends."""
    system, remote = _system(name)
    system.makedirs(system._parent(remote), exist_ok=True)
    with system.transaction, system.open(remote, "wb") as out:
        shutil.copyfileobj(fp, out)


def _is_named_pipe(name: str) -> bool:
    try:
        return not is_url(name) and Path(name).is_fifo()
    except (OSError, ValueError):
        return False


def times(name: str) -> tuple[int, int] | None:
    """When a file was last read and written, in nanoseconds; None if nobody knows."""
    if not is_url(name):
        try:
            stat = os.stat(name)
        except OSError:
            return None  # whoever reads it will say more
        return stat.st_atime_ns, stat.st_mtime_ns
    system, remote = _system(name)
    try:
        written = int(system.modified(remote).timestamp() * 10**9)
    except (NotImplementedError, OSError, KeyError):
        return None
    return written, written


@contextmanager
def _temporary(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"aecodec-{unfinished_tag.get()}") as folder:
        yield Path(folder, name)


def _system(name: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it.

    Raises:
        MissingDependencyError: fsspec, or what it needs for this kind of URL, is missing.
        InputError: no such kind.
    """
    with needing("distributed", f"{name}: a URL"):
        from fsspec.core import url_to_fs
    try:
        system, path = url_to_fs(name)
    except ImportError as error:  # fsspec says what this kind needs
        raise MissingDependencyError(f"{name}: {error}") from error
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error
    return system, path


def _protocols(system: Any) -> tuple[str, ...]:
    found = system.protocol
    return (found,) if isinstance(found, str) else tuple(found)


@contextmanager
def _failing_as(kind: type[AecError], name: str) -> Iterator[None]:
    """Turn what storage raises into one of our errors, with the file's name."""
    try:
        yield
    except (AecError, MemoryError):
        raise
    except OSError as error:
        raise kind(f"{name}: {cause_of(error)}") from error
    except Exception as error:  # every store has errors of its own
        raise kind(f"{name}: {type(error).__name__}: {error}") from error


@contextmanager
def _renamed(path: Path, shown: str) -> Iterator[None]:
    """Errors and notes about a temporary file speak of the one it stands for."""

    def rename(record: logging.LogRecord) -> bool:
        record.msg, record.args = record.getMessage().replace(os.fspath(path), shown), ()
        return True

    log.addFilter(rename)
    try:
        yield
    except FormatError as error:
        if error.name == os.fspath(path):
            error.named(shown)
        raise
    except AecError as error:
        error.args = (str(error).replace(os.fspath(path), shown), *error.args[1:])
        raise
    finally:
        log.removeFilter(rename)
