"""Every error that aecodec raises on purpose.

The tree::

    AecError
      InputError            an image or argument that cannot be encoded
        UnsupportedImageError   a mode, dtype or shape that is not (yet) coded
        LimitError              larger than the limits allow (also raised for files)
      OutputError           the result cannot be written (exists, no space, ...)
      FormatError           a file that is not a valid .aec file
        SignatureError          not an .aec file at all
        VersionError            a format version or feature this release does not know
        TruncatedError          the file ends too early
        ChecksumError           stored and computed checksums differ
      ModelError            weights that cannot be used
        UnknownModelError       no model of that name or identity is installed
        ModelMismatchError      the file was made with other weights
        WeightsError            a weights file is damaged or does not fit its config
      TrainingError         a training run cannot start or go on
      WorkerError           a worker process or a cluster failed
      MissingDependencyError    an optional package is not installed

Messages name the file (where there is one), the byte offset (for damaged
files) and the cause.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

#: Packages whose name is not that of what they are imported as.
_PACKAGES = {"skimage": "scikit-image", "sklearn": "scikit-learn", "umap": "umap-learn"}

_ERRNOS = {
    FileExistsError: errno.EEXIST,
    FileNotFoundError: errno.ENOENT,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    PermissionError: errno.EACCES,
}


class AecError(Exception):
    """Base class of every error aecodec raises on purpose."""


class InputError(AecError):
    """An image or an argument that cannot be encoded."""


class UnsupportedImageError(InputError):
    """An image mode, dtype or shape that is not coded."""


class LimitError(InputError):
    """More pixels, chunks or metadata than the limits allow."""


class OutputError(AecError):
    """The result cannot be written: it exists, or the folder cannot be written to."""


def prefix(name: str | None) -> str:
    """How a message about a file begins: with its name, if it has one."""
    return "" if name is None else f"{name}: "


class FormatError(AecError):
    """A file that is not a valid `.aec` file.

    Args:
        cause: what is wrong.
        offset: byte offset in the file where it was noticed, if known.
        name: the file's name, if known; see `named`.
    """

    def __init__(self, cause: str, *, offset: int | None = None, name: str | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.offset = offset
        self.name = name

    def __str__(self) -> str:
        where = "" if self.offset is None else f" (at byte {self.offset})"
        return f"{prefix(self.name)}{self.cause}{where}"

    def named(self, name: str) -> FormatError:
        """Attach a file name, keeping the type, for `raise` from a caller that knows it."""
        self.name = name
        return self


@contextmanager
def naming(name: str | None) -> Iterator[None]:
    """Put a file's name, if it has one, in front of what is wrong with it or cannot be done."""
    try:
        yield
    except FormatError as error:
        raise error.named(name) if name else error from None
    except InputError as error:
        if name:
            raise type(error)(f"{name}: {error}") from error
        raise


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """Around imports: turn a missing package into an error that names the extra.

    Args:
        extra: of aecodec, which brings the package.
        what: what cannot be done without it, the beginning of the message.

    Raises:
        MissingDependencyError: the package cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        name = (error.name or "a package").partition(".")[0]
        package = _PACKAGES.get(name, name.replace("_", "-"))
        raise MissingDependencyError(
            f"{what} needs {package}: pip install 'aecodec[{extra}]'"
        ) from error


@contextmanager
def in_chunk(number: int) -> Iterator[None]:
    """Say of damage which chunk it is in."""
    try:
        yield
    except FormatError as error:
        error.cause = f"chunk {number}: {error.cause}"
        raise


def cause_of(error: OSError) -> str:
    """What went wrong, in words, without the errno and the file's name."""
    number = error.errno or _ERRNOS.get(type(error))  # fsspec raises them with a name alone
    return (error.strerror or (os.strerror(number) if number else str(error))).lower()


def one_line(error: Exception) -> str:
    """What an error says, without line breaks; other spaces may be those of a file's name."""
    return re.sub(r"\s*[\r\n]\s*", " ", str(error).strip("\r\n")) or type(error).__name__


class SignatureError(FormatError):
    """The data does not begin with the `.aec` signature."""


class VersionError(FormatError):
    """A format version, or a critical feature, that this release does not know."""


class TruncatedError(FormatError):
    """The data ends before the structure it announces."""


class ChecksumError(FormatError):
    """A stored checksum and the computed one differ."""


class ModelError(AecError):
    """Weights that cannot be used."""


class UnknownModelError(ModelError):
    """No model of that name or identity is installed."""


class ModelMismatchError(ModelError):
    """The file was made with other weights than the ones given."""


class WeightsError(ModelError):
    """A weights file is damaged, or does not fit its own config."""


class TrainingError(AecError):
    """A training run cannot start or go on."""


class WorkerError(AecError):
    """A worker process was killed or does not start, or a cluster cannot be reached."""


class MissingDependencyError(AecError):
    """An optional package is not installed; the message names the extra that brings it."""
