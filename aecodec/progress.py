"""How far a long piece of work has come."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with pixels done and pixels to do, from the thread that called the codec.

Both only grow; the second one when a search for a target needs another pass.
"""


class Tally:
    """Counts pixels and tells a `Progress`, if there is one."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done = self._expected = 0

    def expect(self, pixels: int) -> None:
        """There are so many more to do."""
        self._expected += pixels
        self.did(0)

    def did(self, pixels: int) -> None:
        """So many more are done."""
        self._done += pixels
        if self._progress is not None:
            self._progress(self._done, self._expected)
