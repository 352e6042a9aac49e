"""What exploring needs beyond aecodec itself: the extra `aecodec[explore]`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aecodec.errors import MissingDependencyError

_PACKAGES = {"sklearn": "scikit-learn", "umap": "umap-learn"}


@contextmanager
def needs_explore(what: str) -> Iterator[None]:
    """Around imports: turn a missing package into an error that names the extra.

    Args:
        what: what cannot be done without it, the beginning of the message.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "a package").partition(".")[0]
        raise MissingDependencyError(
            f"{what} needs {_PACKAGES.get(name, name)}: pip install 'aecodec[explore]'"
        ) from error
