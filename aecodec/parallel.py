"""Work on several chunks at a time, with the same results in the same order."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

import torch

from aecodec.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

Beside = Callable[[Callable[[], Any]], Callable[[], Any]]
"""`Workers.beside`, or `at_once`."""

MOST_THREADS = max(64, 2 * (os.cpu_count() or 1))
"""More are not started: they would only wait for each other."""

_END = object()
"""Stands behind the last item of an iterator."""

_lock = threading.Lock()
_in_use: list[set[int]] = []  # counts that `Workers` may have set and not yet taken back
_usual = 0  # the count before the first of them


_forked = False


def _after_fork() -> None:
    """In a forked process OpenMP's threads are gone, and waiting for them would never end."""
    global _forked
    _forked = True
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _usual_count() -> int:
    """How many threads torch computes with on this thread, when no `Workers` are about.

    A thread that is born while others code starts with the count that one of them has set: to
    give that back in the end would make it the count of the whole process.
    """
    global _usual
    count = torch.get_num_threads()
    with _lock:
        if not _in_use:
            _usual = count
        return _usual if any(count in counts for counts in _in_use) else count


class Workers:
    """Threads for the chunks of one picture, to be used as a context manager.

    With at least as many chunks as threads, every chunk computes on one thread: torch's
    own threads gain less, since much of a chunk's work is not torch's. With fewer
    chunks, torch may use the threads that are left over, or a job's work is divided: see
    `beside` and `ahead`.

    Args:
        threads: how many compute at a time; None for as many as torch would use.
        jobs: number of chunks.
        exact: whether torch computes on one thread however few chunks there are. Sums of
            many terms come out differently in the last bit on several.

    Raises:
        InputError: less than one thread.
    """

    def __init__(self, threads: int | None, jobs: int, *, exact: bool = False) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads must be at least 1, not {threads}")
        self._before = _usual_count()
        threads = 1 if _forked else min(threads or self._before, MOST_THREADS)
        self._count = max(min(threads, jobs), 1)
        share = threads // self._count
        self._inside = 1 if exact else share
        half = self._inside // 2
        self._counts = {self._inside, self._inside - half, max(half, 1)}
        self._helps = share > 1
        self._pool: ThreadPoolExecutor | None = None
        self._helpers: ThreadPoolExecutor | None = None

    def __enter__(self) -> Workers:
        with _lock:
            _in_use.append(self._counts)
        # torch counts its threads for each thread that calls it
        if self._count > 1:
            self._pool = _pool(self._count, self._inside)
        else:
            torch.set_num_threads(self._inside)
        if self._helps:
            self._helpers = _pool(self._count, max(self._inside // 2, 1))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pool in (self._pool, self._helpers):
            if pool is not None:
                pool.shutdown(cancel_futures=True)
        with _lock:
            _in_use.remove(self._counts)
        torch.set_num_threads(self._before)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """`function` of every item, in order, computed in inference mode.

        Items are taken one by one as threads become free, and few results wait to be
        fetched, so that neither fill the memory. Several maps may run at the same time,
        the items of one coming from another.
        """
        run = torch.inference_mode()(function)
        if self._pool is None:
            yield from map(run, items)
            return
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(self._pool.submit(run, item))
            if len(waiting) > self._count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def beside(self, function: Callable[[], T]) -> Callable[[], T]:
        """Compute something on a thread of its own, if a job has one to spare, else at once.

        Returns:
            What waits for the result, and returns it or raises what came up.
        """
        if self._helpers is None:
            return at_once(function)
        return self._helpers.submit(torch.inference_mode()(function)).result

    def ahead(self, items: Iterable[T]) -> Iterator[T]:
        """Items as they come, computed on a thread of their own while those before are used.

        It starts at once, takes half of the threads that a job has, and leaves the others
        to the caller, who has to take all items; if a job has one thread, they are computed
        when they are asked for. What computing them raises is raised here.
        """
        if self._inside == 1:
            return iter(items)
        found: SimpleQueue[Any] = SimpleQueue()

        def compute() -> None:
            try:
                for item in items:
                    found.put(item)
            finally:
                found.put(_END)

        finish = self.beside(compute)
        torch.set_num_threads(self._inside - self._inside // 2)
        return self._taken(found, finish)

    def _taken(self, found: SimpleQueue[Any], finish: Callable[[], None]) -> Iterator[Any]:
        try:
            while (item := found.get()) is not _END:
                yield item
            finish()
        finally:
            torch.set_num_threads(self._inside)


def _pool(count: int, inside: int) -> ThreadPoolExecutor:
    """So many threads, in each of which torch computes with so many."""
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(inside,))


def at_once(function: Callable[[], T]) -> Callable[[], T]:
    """`Workers.beside` without a thread to spare."""
    result = function()
    return lambda: result
