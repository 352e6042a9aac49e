"""Benchmarks: metrics, peer codecs, the measuring loop, BD-rate, reports and plots;
and evaluations of one model or two (`evaluate*.py`).

Nothing heavy is imported here; `aecodec bench` (aecodec/cli/bench.py) puts the
modules together. What they need beyond aecodec itself is the extra
`aecodec[bench]`; see `needs_bench`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aecodec.errors import MissingDependencyError


@contextmanager
def needs_bench() -> Iterator[None]:
    """Around imports: turn a missing package into an error that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{error.name} is not installed; measuring needs: pip install 'aecodec[bench]'"
        ) from error
