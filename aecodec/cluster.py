"""The same work on the workers of an existing Dask cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from aecodec.errors import WorkerError, needing
from aecodec.processes import Lost

PATIENCE = 10.0  # seconds for the scheduler to answer

Item = TypeVar("Item")
Result = TypeVar("Result")


def run(
    function: Callable[[Item], Result], items: Sequence[Item], address: str
) -> Generator[tuple[Item, Result | Lost], None, None]:
    """Call a function for every item on a cluster.

    The scheduler gives the items of a worker that dies to another one, so the function must
    bear being called again. What it gives up, since several workers died meanwhile, is tried
    once more alone.

    Args:
        function: picklable; its modules are installed on the workers.
        items: picklable.
        address: of the scheduler, as `tcp://host:8786`.

    Yields:
        Each item with its result, as they come. Closing the iterator early takes back what
        is not yet begun.

    Raises:
        WorkerError: the scheduler does not answer, or the cluster cannot run the function.
        MissingDependencyError: Dask is not installed.
    """
    with needing("distributed", "a Dask cluster"):
        from distributed import Client
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise WorkerError(f"{address}: no Dask scheduler answers") from error
    with closing(client):
        unlucky = []
        for item, result in _pass(client, function, items):
            if isinstance(result, Lost):
                unlucky.append(item)
            else:
                yield item, result
        for item in unlucky:  # alone, since Dask blames all that a dying worker still had to do
            yield from _pass(client, function, [item])


def _with_notes(function: Callable[[Item], Result], item: Item) -> Result:
    """On a worker: what the package notes travels with the results."""
    logging.getLogger("aecodec").setLevel(logging.INFO)
    return function(item)


def _pass(
    client: Any, function: Callable[[Item], Result], items: Sequence[Item]
) -> Generator[tuple[Item, Result | Lost], None, None]:
    from distributed import KilledWorker, as_completed

    told = partial(_with_notes, function)
    futures = client.map(told, items, pure=False, batch_size=1000)
    pending = dict(zip(futures, items, strict=True))
    del futures  # results are dropped as they are handed on
    try:
        for future in as_completed(list(pending), loop=client.loop):
            item = pending.pop(future)
            if future.status == "finished":
                yield item, future.result()
                continue
            cause = future.exception()
            if not isinstance(cause, KilledWorker):
                where = client.scheduler.address
                raise WorkerError(f"{where}: {type(cause).__name__}: {cause}") from cause
            yield item, Lost(None)
    finally:
        if pending:
            client.cancel(list(pending))
