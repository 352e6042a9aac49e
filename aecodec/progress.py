"""How far a long piece of work has come."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

Progress = Callable[[int, int], None]
"""Called with pixels done and pixels to do, by one thread at a time, which may be a worker.

Both only grow; the second one when a search for a target or effort needs another pass.
"""


class Tally:
    """Counts pixels and tells a `Progress`, if there is one."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._lock = Lock()
        self._done = self._expected = 0

    def expect(self, pixels: int) -> None:
        """There are so many more to do."""
        self._count(0, pixels)

    def did(self, pixels: int) -> None:
        """So many more are done."""
        self._count(pixels, 0)

    def _count(self, done: int, expected: int) -> None:
        with self._lock:
            self._done += done
            self._expected += expected
            if self._progress is not None:
                self._progress(self._done, self._expected)
