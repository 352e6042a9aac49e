"""Many files at once: what is to be done is planned first, then done by worker processes.

    >>> from aecodec.batch import compress_many
    >>> for outcome in compress_many(["photos"], "coded", recursive=True, quality=60):
    ...     print(outcome.source, outcome.status)
    photos/flower.png done

Inputs are files, folders, patterns (`photos/**/*.png`) and URLs that fsspec knows. Every output
is the same, byte for byte, as that of one file coded alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from aecodec.errors import InputError, OutputError, WorkerError
from aecodec.jobs import Job, Outcome, Work, failed, sweep
from aecodec.output import StrPath
from aecodec.planning import Plan, plan
from aecodec.processes import Lost
from aecodec.processes import run as run_processes

__all__ = ["Job", "Outcome", "compress_many", "decompress_many", "run"]

Results = Generator[tuple[Job, Outcome | Lost], None, None]

_WAYS = "--force replaces it, --skip-existing leaves it"


def run(
    plan: Plan,
    *,
    jobs: int | None = None,
    threads: int | None = None,
    dask: str | None = None,
) -> Generator[Outcome, None, None]:
    """Do what is planned; outcomes come as files are finished.

    Args:
        plan: from `aecodec.planning.plan`.
        jobs: how many worker processes; None works in this process, file by file. Each
            loads the model once. A script that starts processes does so below
            `if __name__ == "__main__":`.
        threads: CPU threads of each; None shares out those that there are.
        dask: address of a Dask scheduler, whose workers do it instead of `jobs`.

    Raises:
        WorkerError: processes do not start, or the cluster does not answer.
        InputError: files in memory, for another process to read.
        MissingDependencyError: Dask is not installed.
    """
    todo = []
    for job in plan.jobs:
        if job not in plan.present or plan.work.overwrite:
            todo.append(job)
        elif plan.skip_existing:
            yield Outcome(job.source, job.output, "skipped")
        else:
            yield failed(job, OutputError(f"{job.output}: exists already; {_WAYS}"))
    if not todo:
        return
    try:
        with closing(_results(plan.work, todo, jobs, threads, dask)) as results:
            for job, result in results:
                if isinstance(result, Lost):
                    result = failed(job, WorkerError(f"{job.source}: {result}"))
                yield result
    finally:
        sweep(plan.work.tag, todo)


def _results(
    work: Work, todo: Sequence[Job], jobs: int | None, threads: int | None, dask: str | None
) -> Results:
    """Choose who does it."""
    if dask is not None:
        from aecodec.cluster import run as run_on_cluster

        # a task may run again after its first worker died with the output complete:
        # it may be replaced, since the plan has seen that there was none
        work = _with_threads(replace(work, overwrite=True), threads)
        return run_on_cluster(work.attempt, todo, dask)
    if jobs is None:
        work = _with_threads(work, threads)
        return ((job, work.attempt(job)) for job in todo)
    if any(name.startswith("memory://") for job in todo for name in (job.source, job.output)):
        raise InputError("files in memory:// cannot be seen by worker processes; use jobs=None")
    count = max(1, min(jobs, len(todo)))
    if threads is None and count > 1:
        threads = max(1, cores() // count)
    return run_processes(_with_threads(work, threads).attempt, todo, count=count, threads=threads)


def _with_threads(work: Work, threads: int | None) -> Work:
    return replace(work, options={**work.options, "threads": threads})


def cores() -> int:
    """CPU threads that this process may use; `OMP_NUM_THREADS` counts."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def compress_many(
    sources: StrPath | Iterable[StrPath],
    out: StrPath,
    *,
    jobs: int | None = None,
    threads: int | None = None,
    dask: str | None = None,
    progress: Callable[[Outcome, int], None] | None = None,
    **options: Any,
) -> list[Outcome]:
    """Code many image files as `.aec` files; a failure does not stop the others.

    Args:
        sources: files, folders, patterns, URLs, or one.
        out: folder, or URL, for the outputs. The tree below a folder, or below the part of
            a pattern without wildcards, is kept; of several folders each keeps its name.
        jobs, threads, dask: as for `run`.
        progress: called with every outcome as it comes, and the number of files in all.
        options: `recursive`, `skip_existing`, `overwrite`, `keep_times` as for `plan`; the
            rest as for `aecodec.compress`.

    Returns:
        What came of every file, in the order of `sources`.

    Raises:
        InputError: there is nothing to do; two files would get the same name; a quality or
            target that no file can be coded with.
        UnknownModelError: there is no such model.
        WorkerError, MissingDependencyError: as `run`.
    """
    made = plan("compress", sources, out, shared=dask is not None, **options)
    return _run(made, jobs, threads, dask, progress)


def decompress_many(
    sources: StrPath | Iterable[StrPath],
    out: StrPath,
    *,
    format: str = "png",
    jobs: int | None = None,
    threads: int | None = None,
    dask: str | None = None,
    progress: Callable[[Outcome, int], None] | None = None,
    **options: Any,
) -> list[Outcome]:
    """Decode many `.aec` files to image files; a failure does not stop the others.

    Args:
        sources, out, jobs, threads, dask, progress: as for `compress_many`. Of folders the
            files that end in `.aec` are taken.
        format: ending of the image files, with or without its dot, see
            `aecodec.pixels.WRITERS`.
        options: `recursive`, `skip_existing`, `overwrite`, `keep_times` as for `plan`; the
            rest as for `aecodec.decompress`.

    Returns:
        As `compress_many`.

    Raises:
        OutputError: no images are written with this ending.
        InputError, WorkerError, MissingDependencyError: as `compress_many`.
    """
    shared = dask is not None
    made = plan(
        "decompress", sources, out, ending=f".{format.lstrip('.')}", shared=shared, **options
    )
    return _run(made, jobs, threads, dask, progress)


def _run(
    plan: Plan,
    jobs: int | None,
    threads: int | None,
    dask: str | None,
    progress: Callable[[Outcome, int], None] | None,
) -> list[Outcome]:
    found: dict[str, Outcome] = {}
    with closing(run(plan, jobs=jobs, threads=threads, dask=dask)) as outcomes:
        for outcome in outcomes:
            found[outcome.output] = outcome
            if progress is not None:
                progress(outcome, len(plan.jobs))
    return [found[job.output] for job in plan.jobs]
