"""The folder of a run: what lies in it, and how it is written."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aecodec.errors import InputError, OutputError, cause_of
from aecodec.output import UNFINISHED, write_text

log = logging.getLogger(__name__)

_CHECKPOINT = re.compile(r"checkpoint-(\d+)\.safetensors")


class RunFolder:
    """Names of the files of a run, and the ways to write them.

    `config.toml`, `best.safetensors` (lowest validation loss), `last.safetensors`,
    `checkpoint-STEP.safetensors`, `metrics.jsonl` (an object a validation), `tensorboard/`,
    `test_files.txt` (paths relative to the data folder, one a line, that training never saw).

    Args:
        path: the folder; made when something is written.
        keep: how many periodic checkpoints stay.
    """

    def __init__(self, path: Path, keep: int = 3) -> None:
        self.path, self.keep = path, keep
        self.config = path / "config.toml"
        self.last = path / "last.safetensors"
        self.best = path / "best.safetensors"
        self.metrics = path / "metrics.jsonl"
        self.test_files = path / "test_files.txt"
        self.board = path / "tensorboard"

    def make(self) -> None:
        """Make the folder.

        Raises:
            OutputError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be made: {cause_of(error)}") from error

    def begin(self, config: str, test_files: Iterable[str]) -> None:
        """Write what is known before the first step; remove what a killed run left half-written.

        Raises:
            OutputError: a file cannot be written.
        """
        self.make()
        for path in self.path.glob(UNFINISHED):
            path.unlink(missing_ok=True)
        write_text(self.config, config, overwrite=True)
        names = "".join(f"{name}\n" for name in test_files)
        write_text(self.test_files, names, overwrite=True)

    def checkpoints(self) -> dict[int, Path]:
        """The periodic checkpoints by their steps, oldest first."""
        found = ((_CHECKPOINT.fullmatch(p.name), p) for p in self.path.glob("checkpoint-*"))
        return dict(sorted((int(name[1]), p) for name, p in found if name))

    def add_checkpoint(self, step: int, save: Callable[[Path], object]) -> None:
        """Write a periodic checkpoint, then remove those too many.

        Raises:
            OutputError: it cannot be written; nothing is removed then.
        """
        if self.keep:
            save(self.path / f"checkpoint-{step}.safetensors")
            for path in list(self.checkpoints().values())[: -self.keep]:
                path.unlink(missing_ok=True)

    def record(self, values: dict[str, Any]) -> None:
        """Add one line to the metrics.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise OutputError(f"{self.metrics}: {cause_of(error)}") from error

    def records(self) -> list[dict[str, Any]]:
        """The metrics; none if nothing was validated yet.

        Raises:
            InputError: as `read_metrics`.
        """
        return read_metrics(self.metrics) if self.metrics.exists() else []

    def rewind(self, step: int) -> None:
        """Forget metrics of steps after this one: they will be made again.

        Raises:
            InputError: as `read_metrics`; nothing is forgotten then.
            OutputError: they cannot be written.
        """
        kept = [one for one in self.records() if one.get("step", 0) <= step]
        if self.metrics.exists():
            text = "".join(json.dumps(one) + "\n" for one in kept)
            write_text(self.metrics, text, overwrite=True)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The metrics of a run: an object a validation, whose `step`, if it has one, is an int.

    A last line that is damaged is left out with a warning: a killed run may leave half of it,
    and a run that goes on may be writing it.

    Args:
        path: the `metrics.jsonl`.

    Raises:
        InputError: it cannot be read, or another line is damaged.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path}: {cause_of(error)}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(_metrics_of(line))
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise InputError(f"{path}: line {number} is damaged: {error}") from error
            log.warning("%s: line %d is cut off and left out", path, number)
    return found


def _metrics_of(line: bytes) -> dict[str, Any]:
    row = json.loads(line.decode("utf-8"))
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    if not isinstance(row.get("step", 0), int):
        raise ValueError("its step is not a whole number")
    return row
