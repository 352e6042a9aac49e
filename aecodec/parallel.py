"""Work on several chunks at a time, with the same results in the same order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

import torch

from .errors import InputError

T = TypeVar("T")
R = TypeVar("R")

_END = object()
"""Stands behind the last item of an iterator."""


class Workers:
    """Threads for the chunks of one picture, to be used as a context manager.

    With at least as many chunks as threads, every chunk computes on one thread: torch's
    own threads gain less, since much of a chunk's work is not torch's. With fewer
    chunks, torch may use the threads that are left over.

    Args:
        threads: how many compute at a time; None for as many as torch would use.
        jobs: number of chunks.
        exact: whether every chunk computes on one thread however few there are. Sums of
            many terms come out differently in the last bit on several.

    Raises:
        InputError: less than one thread.
    """

    def __init__(self, threads: int | None, jobs: int, *, exact: bool = False) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads must be at least 1, not {threads}")
        self._before = torch.get_num_threads()
        threads = threads or self._before
        self._count = max(min(threads, jobs), 1)
        self._inside = 1 if exact else threads // self._count
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self._count > 1:
            # torch counts its threads for each thread that calls it
            self._pool = ThreadPoolExecutor(
                self._count, initializer=torch.set_num_threads, initargs=(self._inside,)
            )
        else:
            torch.set_num_threads(self._inside)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
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

    def ahead(self, items: Iterable[T]) -> Iterator[T]:
        """Items as they come, computed on a thread of their own while those before are used.

        It starts at once, takes half of the threads that a chunk has, and leaves the others
        to the caller, who has to take all items; if a chunk has one thread, they are computed
        when they are asked for. What computing them raises is raised here.
        """
        half = self._inside // 2
        if not half:
            return iter(items)
        found: SimpleQueue[Any] = SimpleQueue()

        @torch.inference_mode()
        def compute() -> None:
            torch.set_num_threads(half)
            for item in items:
                found.put(item)

        pool = ThreadPoolExecutor(1)
        job = pool.submit(compute)
        job.add_done_callback(lambda _: found.put(_END))
        pool.shutdown(wait=False)
        torch.set_num_threads(self._inside - half)
        return self._taken(found, job)

    def _taken(self, found: SimpleQueue[Any], job: Future[None]) -> Iterator[Any]:
        try:
            while (item := found.get()) is not _END:
                yield item
            job.result()
        finally:
            torch.set_num_threads(self._inside)
