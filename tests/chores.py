"""What worker processes do in tests; apart from them so that it is loaded in no time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from aecodec.jobs import Job, Outcome, Work


def double(item: int, again: bool) -> tuple[int, bool, int]:
    return 2 * item, again, os.getpid()


def threads(item: int, again: bool) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def die(item: str, again: bool) -> str:
    """`kill`: always; `once`: not again; `exit`: by itself; else live."""
    if item == "kill" or (item == "once" and not again):
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "exit":
        os._exit(3)
    time.sleep(0.05)
    return item.upper()


def linger(folder: Path | None, again: bool) -> None:
    """Take long, and tidy up when asked to end."""
    if folder is None:
        return
    (folder / f"begun-{os.getpid()}").touch()
    try:
        time.sleep(60)
    finally:
        (folder / f"tidied-{os.getpid()}").touch()


def nap(folder: Path, again: bool) -> None:
    (folder / f"begun-{os.getpid()}").touch()
    time.sleep(0.5)


class Deadly(Work):
    """Codes nothing; dies of files called `kill...`, in the middle of writing."""

    def attempt(self, job: Job, again: bool = False) -> Outcome:
        output = Path(job.output)
        output.parent.mkdir(exist_ok=True)
        if "kill" in job.source:
            output.with_name(f".aecodec-{self.tag}0.part").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        output.write_text("done")
        return Outcome(job.source, job.output, "done", source_bytes=9, output_bytes=4)


def mortal(item: str) -> str:
    """As `die`, for Dask."""
    return die(item, False)


def divide(item: int) -> float:
    return 1 / item
