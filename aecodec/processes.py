"""Worker processes: the same function on many items, some of which may kill their worker.

Processes, not threads, because entropy coding holds the interpreter's lock. Unlike
`concurrent.futures`, whose pool breaks when a worker is killed, this one knows what each worker
was at: that item is tried once more, alone, and the others go on.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from aecodec.errors import WorkerError

Item = TypeVar("Item")
Result = TypeVar("Result")
Function = Callable[[Item, bool], Result]

_PATIENCE = 3.0  # seconds that a worker has to end, and to put away what it was writing


@dataclass(frozen=True)
class Lost:
    """In place of a result: the item's workers died, every time.

    Attributes:
        exit_code: of the last one, negative for a signal; None where nobody knows.
    """

    exit_code: int | None

    def __str__(self) -> str:
        if self.exit_code is None:
            return "several workers died of it"
        if self.exit_code >= 0:
            return f"the worker process ended (exit code {self.exit_code}), twice"
        try:
            name = signal.Signals(-self.exit_code).name
        except ValueError:  # most of those for real time have none
            name = f"signal {-self.exit_code}"
        hint = ", perhaps for lack of memory" if name == "SIGKILL" else ""
        return f"the worker process was killed ({name}{hint}), twice"


def run(
    function: Function[Item, Result],
    items: Sequence[Item],
    *,
    count: int,
    threads: int | None = None,
) -> Generator[tuple[Item, Result | Lost], None, None]:
    """Call a function for every item, in worker processes.

    Args:
        function: picklable; called with an item, and whether that item's first worker died.
            It must not raise.
        items: picklable.
        count: of processes at most.
        threads: what OpenMP gets in each; None leaves it as it is.

    Yields:
        Each item with its result, as they come. Closing the iterator early ends all workers.

    Raises:
        WorkerError: workers do not start.
    """
    unlucky: list[tuple[Item, Lost]] = []
    for item, result in _pass(function, items, count, threads, again=False):
        if isinstance(result, Lost):
            unlucky.append((item, result))
        else:
            yield item, result
    if unlucky:  # alone, so that memory that was short among several may suffice
        yield from _pass(function, [item for item, _ in unlucky], 1, threads, again=True)


def _pass(
    function: Function[Item, Result],
    items: Sequence[Item],
    count: int,
    threads: int | None,
    *,
    again: bool,
) -> Generator[tuple[Item, Result | Lost], None, None]:
    waiting = deque(items)
    workers: list[_Worker[Item, Result]] = []
    try:
        for _ in range(min(count, len(waiting))):
            workers.append(_Worker(function, threads))
            workers[-1].give(waiting.popleft(), again)
        while workers:
            for connection in wait([worker.connection for worker in workers]):
                worker = next(w for w in workers if w.connection is connection)
                try:
                    result = worker.take()
                except _Starting:
                    continue
                except EOFError:
                    workers.remove(worker)
                    yield worker.item, Lost(worker.stop(_PATIENCE))
                    if waiting:
                        workers.append(_Worker(function, threads))
                        workers[-1].give(waiting.popleft(), again)
                    continue
                item = worker.item
                if waiting:
                    worker.give(waiting.popleft(), again)
                else:
                    workers.remove(worker)
                    worker.stop()  # at once: it is idle, and torch takes its time to leave
                yield item, result
    finally:
        _interrupt(workers)


class _Starting(Exception):
    """A worker has said that it is ready."""


class _Worker(Generic[Item, Result]):
    """A process, what it is at, and the line to it."""

    item: Item

    def __init__(self, function: Function[Item, Result], threads: int | None) -> None:
        context = multiprocessing.get_context("spawn")  # threads and forks do not mix
        self.connection, theirs = context.Pipe()
        arguments = (theirs, function, threads)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        with _without_interrupts():
            self.process.start()
        theirs.close()
        self._ready = False

    def give(self, item: Item, again: bool) -> None:
        self.item = item
        with suppress(BrokenPipeError, ConnectionResetError):  # then `take` finds it dead
            self.connection.send((item, again))

    def take(self) -> Result:
        """The result that has arrived.

        Raises:
            EOFError: the worker is dead.
            WorkerError: it has never been alive.
            _Starting: nothing yet but a sign of life.
        """
        try:
            found: Result = self.connection.recv()
        except (EOFError, OSError) as error:
            if self._ready:
                raise EOFError from error
            raise WorkerError(
                f"worker processes end before they are ready (exit code {self.stop(_PATIENCE)}); "
                "in a script, start them below `if __name__ == '__main__':`"
            ) from error
        if not self._ready:
            self._ready = True
            raise _Starting
        return found

    def stop(self, patience: float = 0) -> int | None:
        """End a worker, by force if it does not end by itself in time; gives its exit code."""
        self.process.join(patience)
        self.process.kill()
        self.process.join()
        self.connection.close()
        return self.process.exitcode


def _interrupt(workers: Sequence[_Worker[Any, Any]]) -> None:
    """End workers in the middle of something: gently, so that they clean up, then by force."""
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.stop(_PATIENCE)


def _serve(connection: Connection, function: Function[Any, Any], threads: int | None) -> None:
    """What a worker does until its line is cut."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    logging.getLogger("aecodec").setLevel(logging.INFO)  # notes travel with the results
    warnings.filterwarnings("ignore", module="PIL")  # which name no file
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        connection.send(None)
        while True:
            item, again = connection.recv()
            connection.send(function(item, again))


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start a process that Ctrl-C cannot hit before it has said what to do about it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # it would unblock what is blocked here
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
