"""One file of a batch: what is to be done, doing it, and what came of it.

`Work` says what happens to every file of a batch, `Job` which one, `Outcome` how it went. All
three travel between processes and machines.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from aecodec import files, storage
from aecodec._version import __version__
from aecodec.errors import AecError, WorkerError
from aecodec.fileinfo import FileInfo
from aecodec.files import Rescued
from aecodec.output import unfinished_tag

log = logging.getLogger("aecodec")

Verb = Literal["compress", "decompress", "rescue"]


@dataclass(frozen=True)
class Job:
    """One file to code: its name and that of the file to be made; see `aecodec.storage`."""

    source: str
    output: str


@dataclass(frozen=True)
class Outcome:
    """What came of one file.

    Attributes:
        source: name of the file read.
        output: name of the file written, or to be written.
        status: "done"; "skipped", since the output exists; or "failed".
        info: what the `.aec` file says about itself, if it is done.
        source_bytes: size of the file read; 0 unless it is done.
        output_bytes: size of the file written; 0 unless it is done.
        seconds: that it took; a process loads the model during its first job.
        lost: numbers of the chunks that a rescue could not decode.
        lost_metadata: whether it found damage behind the picture, where metadata stand.
        notes: what was logged meanwhile; conversions are, where the logger `aecodec` has the
            level INFO.
        error: why it failed.
    """

    source: str
    output: str
    status: Literal["done", "skipped", "failed"]
    info: FileInfo | None = None
    source_bytes: int = 0
    output_bytes: int = 0
    seconds: float = 0.0
    lost: tuple[int, ...] = ()
    lost_metadata: bool = False
    notes: tuple[str, ...] = ()
    error: AecError | None = None


@dataclass(frozen=True)
class Work:
    """What to do with every file of a batch.

    Attributes:
        verb: the function of `aecodec.files` that does it.
        options: its keyword arguments, without `overwrite`.
        ending: of the files it makes, with its dot.
        overwrite: whether existing files may be replaced.
        keep_times: whether outputs get the access and modification time of their source.
        folders: whether missing folders of outputs are made.
        tag: marks unfinished files, so that `sweep` finds those of a dead worker.
        version: of the aecodec that planned it.
    """

    verb: Verb
    options: Mapping[str, Any] = field(default_factory=dict)
    ending: str = ".aec"
    overwrite: bool = False
    keep_times: bool = False
    folders: bool = False
    tag: str = ""
    version: str = __version__

    def perform(self, job: Job) -> Outcome:
        """Do one job.

        Raises:
            AecError: as the function of `aecodec.files`; or a file cannot be fetched or put away.
        """
        if self.version != __version__:
            raise WorkerError(f"the worker runs aecodec {__version__}, not {self.version}")
        start = time.perf_counter()
        times = storage.times(job.source) if self.keep_times else None
        with (
            storage.local_input(job.source) as src,
            storage.local_output(
                job.output, ending=self.ending, overwrite=self.overwrite, folders=self.folders
            ) as dst,
        ):
            made = self._call(src, dst)
            if times is not None:
                os.utime(dst, ns=times)
            sizes = src.stat().st_size, dst.stat().st_size
        seconds = time.perf_counter() - start
        done = Outcome(job.source, job.output, "done", made.info, *sizes, seconds)
        return replace(done, lost=made.lost, lost_metadata=made.lost_metadata)

    def _call(self, src: Path, dst: Path) -> Rescued:
        if self.verb == "rescue":
            return files.rescue(src, dst, overwrite=self.overwrite, **self.options)
        call = files.compress if self.verb == "compress" else files.decompress
        return Rescued(call(src, dst, overwrite=self.overwrite, **self.options), (), False)

    def attempt(self, job: Job, again: bool = False) -> Outcome:
        """Do one job; whatever goes wrong becomes part of the outcome.

        Args:
            job: the file.
            again: the first attempt ended with its process, perhaps after the output was
                complete: it may be replaced, since planning found that there was none.
        """
        work = replace(self, overwrite=True) if again else self
        token = unfinished_tag.set(self.tag)
        try:
            with collecting_notes() as notes:
                outcome = _guarded(work, job)
            return replace(outcome, notes=tuple(notes))
        finally:
            unfinished_tag.reset(token)


def failed(job: Job, error: AecError) -> Outcome:
    """The outcome of a job that ended in an error."""
    return Outcome(job.source, job.output, "failed", error=error)


def sweep(tag: str, jobs: Iterable[Job]) -> None:
    """Remove what dead workers left unfinished: beside some outputs, and of this machine's copies.

    Args:
        tag: of the `Work`, not empty.
        jobs: what it was to do.
    """
    outputs = [job.output for job in jobs if not storage.is_url(job.output)]
    for folder in {os.path.dirname(os.path.realpath(output)) for output in outputs}:
        for path in Path(folder).glob(f".aecodec-{tag}*.part"):
            path.unlink(missing_ok=True)
    for path in Path(tempfile.gettempdir()).glob(f"aecodec-{tag}*"):
        shutil.rmtree(path, ignore_errors=True)


def _guarded(work: Work, job: Job) -> Outcome:
    try:
        return work.perform(job)
    except AecError as error:
        return failed(job, error)
    except MemoryError:
        return failed(job, AecError(f"{job.source}: not enough memory"))
    except Exception as error:  # one file's bug must not stop the others
        log.debug("%s: unexpected error", job.source, exc_info=True)
        return failed(job, AecError(f"{job.source}: {type(error).__name__}: {error}"))


@contextmanager
def collecting_notes() -> Iterator[list[str]]:
    """The messages that this thread logs meanwhile."""
    notes: list[str] = []
    thread = threading.get_ident()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                notes.append(self.format(record))

    collector = Collector(logging.INFO)
    log.addHandler(collector)
    try:
        yield notes
    finally:
        log.removeHandler(collector)
