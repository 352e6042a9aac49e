"""What `compress` and `decompress` share: which files, and what is said about them.

One file is coded in this process, and its error ends the command; several are a batch.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aecodec import storage
from aecodec.cli import options
from aecodec.cli.main import EXIT_PARTLY, EXIT_SOME, error_fields, note, report
from aecodec.errors import AecError, OutputError
from aecodec.jobs import Job, Outcome, Verb, Work, collecting_notes, failed
from aecodec.layout import PREVIEW_SCALE

if TYPE_CHECKING:
    from tqdm import tqdm

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Files:
    """The values of `arguments`."""

    names: tuple[str, ...]
    out: str | None
    recursive: bool
    jobs: int
    dask: str | None
    skip_existing: bool
    force: bool
    keep_times: bool
    as_json: bool
    verbose: bool
    quiet: bool


def arguments(function: F) -> F:
    """The files, where they go, and how much is said: `INPUT... [OUTPUT]` to `--json`."""
    several = (
        click.argument(
            "names", metavar="INPUT... [OUTPUT]", nargs=-1, required=True, type=options.NAME
        ),
        click.option(
            "-o", "--out", metavar="FOLDER", type=options.NAME, help="Code several INPUTs into it."
        ),
        click.option("-r", "--recursive", is_flag=True, help="Search folders below folders, too."),
        click.option(
            "-j",
            "--jobs",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            metavar="N",
            help="Worker processes; the CPU's threads are shared out among them.",
        ),
        click.option("--dask", metavar="ADDRESS", help="Use this Dask cluster: tcp://host:8786."),
        click.option("--skip-existing", is_flag=True, help="Leave files whose output exists."),
        options.force,
        click.option("--keep-times", is_flag=True, help="Give outputs the times of their inputs."),
        options.as_json,
        options.verbose,
        options.quiet,
    )
    return reduce(lambda wrapped, option: option(wrapped), reversed(several), function)


def run(verb: Verb, given: Mapping[str, Any], *, ending: str = ".aec") -> int:
    """Code what the command line says.

    Args:
        verb: as for `aecodec.jobs.Work`.
        given: values of `arguments`, and arguments of the verb's function.
        ending: of outputs that have no name yet, with its dot.

    Returns:
        The exit code.
    """
    files = Files(**{field.name: given[field.name] for field in fields(Files)})
    coding = {key: value for key, value in given.items() if not hasattr(files, key)}
    if files.quiet and files.verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
    if files.skip_existing and files.force:
        raise click.UsageError("--skip-existing and --force exclude each other")
    if files.out is not None:
        return _batch(verb, files, files.out, coding, ending)
    if files.recursive or files.dask:
        raise click.UsageError("--recursive and --dask need --out FOLDER")
    if len(files.names) > 2:
        raise click.UsageError("several inputs need --out FOLDER")
    if storage.is_pattern(files.names[0]):
        raise click.UsageError(f"{files.names[0]}: no such file; a pattern needs --out FOLDER")
    return _one(verb, files, coding, ending)


def _one(verb: Verb, files: Files, coding: Mapping[str, Any], ending: str) -> int:
    """Code one file; its error is the command's."""
    job = Job(files.names[0], files.names[1] if len(files.names) > 1 else "")
    try:
        source, *rest = (storage.plain(name) for name in files.names)
        job = Job(source, rest[0] if rest else options.beside(source, ending))
        _check_streams(job.output, files)
        with collecting_notes() as notes:
            outcome = _coded(verb, files, coding, ending, job)
        outcome = replace(outcome, notes=tuple(notes))
    except AecError as error:
        if files.as_json:
            click.echo(_json(failed(job, error)))
        raise
    if files.as_json:
        click.echo(_json(outcome))
    elif not files.quiet:
        click.echo(_line(verb, outcome, coding), err=True)
    if outcome.lost or outcome.lost_metadata:
        click.echo(_lost(outcome), err=True)
        return EXIT_PARTLY
    return 0


def _coded(verb: Verb, files: Files, coding: Mapping[str, Any], ending: str, job: Job) -> Outcome:
    if files.skip_existing and job.output != storage.PIPE and storage.exists(job.output):
        return Outcome(job.source, job.output, "skipped")
    with options.progress_bar(files.quiet, files.verbose) as progress:
        doing = {**coding, "progress": progress}
        return Work(verb, doing, ending, files.force, files.keep_times).perform(job)


def _check_streams(output: str, files: Files) -> None:
    """Refuse what standard output cannot be."""
    if output != storage.PIPE:
        if files.keep_times and storage.is_url(output):
            raise click.UsageError("--keep-times needs a local output")
        return
    if files.as_json or files.keep_times:
        raise click.UsageError("--json and --keep-times need an output file")
    if sys.stdout.isatty() and not files.force:
        raise OutputError("standard output is a terminal; send it to a file, or use -f")


def _batch(verb: Verb, files: Files, out: str, coding: Mapping[str, Any], ending: str) -> int:
    """Code several files; what fails is said at the end."""
    from aecodec.batch import run as run_batch
    from aecodec.planning import plan

    start = time.perf_counter()
    planned = plan(
        verb,
        files.names,
        out,
        ending=ending,
        recursive=files.recursive,
        skip_existing=files.skip_existing,
        overwrite=files.force,
        keep_times=files.keep_times,
        shared=files.dask is not None,
        **{key: value for key, value in coding.items() if key != "threads"},
    )
    done: list[Outcome] = []
    results = run_batch(planned, jobs=files.jobs, threads=coding["threads"], dask=files.dask)
    try:
        with closing(results) as outcomes, _bar(len(planned.jobs), files) as bar:
            for outcome in outcomes:
                done.append(outcome)
                if files.as_json:
                    with bar.external_write_mode():
                        click.echo(_json(outcome))
                        sys.stdout.flush()
                for line in _said(verb, outcome, files, coding):
                    bar.write(line, file=sys.stderr)
                bar.update()
    finally:
        for outcome in done:
            if outcome.error is not None:
                report(outcome.error)
        if not files.quiet:
            summary = _summary(verb, done, len(planned.jobs), time.perf_counter() - start)
            click.echo(summary, err=True)
    if any(outcome.error is not None for outcome in done):
        return EXIT_SOME
    return EXIT_PARTLY if any(one.lost or one.lost_metadata for one in done) else 0


def _bar(total: int, files: Files) -> tqdm[Any]:
    """One progress bar for all files; in a log, which is no terminal, a line now and then."""
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        unit="file",
        disable=files.quiet or not (terminal or files.verbose),
        dynamic_ncols=True,
        mininterval=0.1 if terminal else 5,
    )


def _said(verb: Verb, outcome: Outcome, files: Files, coding: Mapping[str, Any]) -> Iterator[str]:
    """What is said about a file of a batch as soon as it is done."""
    if not files.quiet:
        yield from map(note, outcome.notes)
    if files.verbose and outcome.error is None:
        yield _line(verb, outcome, coding)
    if outcome.lost or outcome.lost_metadata:
        yield _lost(outcome)


def _line(verb: Verb, outcome: Outcome, coding: Mapping[str, Any]) -> str:
    """One file, for people."""
    if outcome.info is None:
        return f"{outcome.output}: exists already, skipped"
    before, after = outcome.source_bytes, outcome.output_bytes
    sizes = f"{options.human(before)} -> {options.human(after)}"
    if verb == "compress":
        if not before:  # a pipe, whose size nobody knows
            sizes = options.human(after)
        ratio = f", {before / after:.1f}:1" if before else ""
        what = f"{sizes}, {outcome.info.bpp:.3f} bpp{ratio}"
    else:
        width, height = outcome.info.width, outcome.info.height
        if outcome.info.orientation >= 5:
            width, height = height, width
        if coding.get("region") is not None:
            width, height = coding["region"][2:]
        elif coding.get("preview"):
            width, height = -(-width // PREVIEW_SCALE), -(-height // PREVIEW_SCALE)
        what = f"{width} x {height} {outcome.info.mode}, {sizes}"
    return f"{outcome.output}: {what}, {outcome.seconds:.2f} s"


def _lost(outcome: Outcome) -> str:
    if not outcome.lost:
        return f"{outcome.output}: the picture is whole, metadata may be lost"
    shown = "painted gray"
    if outcome.info and outcome.info.depth_bytes is not None:
        shown = "taken as holes"
    elif outcome.info and outcome.info.alpha_bytes is not None:
        shown = "painted gray, or opaque where alpha alone is lost"
    return f"{outcome.output}: chunks lost: {', '.join(map(str, outcome.lost))}; {shown}"


def _summary(verb: Verb, done: Sequence[Outcome], total: int, seconds: float) -> str:
    """A batch, for people: `12 of 12 files: 30 MB -> 1.2 MB, 25.0:1, 14.1 s; 2 skipped`."""
    coded = [outcome for outcome in done if outcome.status == "done"]
    before = sum(outcome.source_bytes for outcome in coded)
    after = sum(outcome.output_bytes for outcome in coded)
    line = f"{len(coded)} of {total} files"
    if coded:
        line += f": {options.human(before)} -> {options.human(after)}"
        line += f", {before / after:.1f}:1" if verb == "compress" else ""
    line += f", {seconds:.1f} s"
    for status in ("skipped", "failed"):
        count = sum(outcome.status == status for outcome in done)
        if count:
            line += f"; {count} {status}"
    return line


def _json(outcome: Outcome) -> str:
    """One file, for machines; sizes and rates are null unless it is done."""
    info = outcome.info
    return json.dumps(
        {
            "path": outcome.source,
            "output": outcome.output or None,
            "status": outcome.status,
            "source_bytes": outcome.source_bytes if info else None,
            "bytes": outcome.output_bytes if info else None,
            "bpp": info.bpp if info else None,
            "width": info.width if info else None,
            "height": info.height if info else None,
            "quality": info.quality if info else None,
            "seconds": round(outcome.seconds, 3) if info else None,
            "lost_chunks": list(outcome.lost),
            "lost_metadata": outcome.lost_metadata,
            "notes": list(outcome.notes),
            **error_fields(outcome.error),
        }
    )
