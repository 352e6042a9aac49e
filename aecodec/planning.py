"""What a batch is to do: which files it reads, and what those it writes are called."""

from __future__ import annotations

import inspect
import logging
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePath, PurePosixPath
from typing import Any

from aecodec import files, storage
from aecodec.errors import InputError, OutputError
from aecodec.jobs import Job, Verb, Work
from aecodec.model.weights import find_model
from aecodec.output import StrPath
from aecodec.rate import Aim

log = logging.getLogger("aecodec")

AEC = ".aec"

_SHOWN = 3  # collisions in a message


@dataclass(frozen=True)
class Plan:
    """What to do, and with which files.

    Attributes:
        work: what is done with every file.
        jobs: which files; no two outputs are the same.
        present: those whose output exists already.
        skip_existing: whether these are left as they are; else they are replaced if
            `work.overwrite` is set, and fail if not.
    """

    work: Work
    jobs: tuple[Job, ...]
    present: frozenset[Job] = frozenset()
    skip_existing: bool = False


def plan(
    verb: Verb,
    sources: StrPath | Iterable[StrPath],
    out: StrPath,
    *,
    ending: str = AEC,
    recursive: bool = False,
    skip_existing: bool = False,
    overwrite: bool = False,
    keep_times: bool = False,
    shared: bool = False,
    **options: Any,
) -> Plan:
    """Find out what is to be done, before anything is.

    Args:
        verb: "compress", "decompress", or "rescue" for what is left of damaged files.
        sources: files, folders, patterns, URLs, or one. Of folders those files are taken that
            look like what the verb reads. A file that does not exist fails when its turn comes.
        out: folder, or URL, for the outputs. The tree below a folder, or below the part of
            a pattern without wildcards, is kept; of several folders each keeps its name.
        ending: of the outputs, with its dot.
        recursive: whether folders are searched with all that is below them.
        skip_existing: whether files with an output are left as they are.
        overwrite: whether existing outputs may be replaced.
        keep_times: whether outputs get their source's access and modification time.
        shared: whether processes on other machines are to find the files: makes names
            absolute.
        options: of `aecodec.compress`, `aecodec.decompress` or `aecodec.files.rescue`.

    Raises:
        InputError: there is nothing to do; two files would get the same name; a name or
            combination of arguments has no meaning.
        OutputError: an output would replace an input; `out` is a file; no images are written
            with this ending.
        UnknownModelError: there is no such model.
        TypeError: the verb has no such option.
    """
    _check_options(verb, options, shared)
    if verb != "compress":
        from aecodec.pixels import writer_for

        writer_for(f"*{ending}")
    folder = storage.plain(os.fspath(out))
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    names = [storage.plain(os.fspath(source)) for source in sources]
    _check(names, folder, skip_existing=skip_existing, overwrite=overwrite, keep_times=keep_times)
    if shared:
        folder, *names = [storage.absolute(name) for name in (folder, *names)]
        model = options.get("model")
        if model is not None and os.fspath(model).endswith(".safetensors"):
            options["model"] = storage.absolute(os.fspath(model))
    work = Work(
        verb,
        options,
        ending=ending,
        overwrite=overwrite,
        keep_times=keep_times,
        folders=True,
        tag=f"{secrets.token_hex(6)}-",
    )
    found = _find(names, _endings(verb), recursive)
    jobs = tuple(
        Job(source, storage.join(folder, below.with_suffix(ending))) for source, below in found
    )
    _check_outputs(jobs)
    exists = storage.existing(folder)
    present = frozenset(job for job in jobs if exists(job.output))
    return Plan(work, jobs, present, skip_existing)


def _check_options(verb: Verb, options: Mapping[str, Any], shared: bool) -> None:
    """What is wrong for every file is said once."""
    inspect.signature(getattr(files, verb)).bind_partial(**options)
    if verb == "compress":
        Aim(**{field.name: options.get(field.name) for field in fields(Aim)})
    model = options.get("model")
    if model is not None and not shared:  # other machines may have others
        find_model(model)


def _check(
    names: Sequence[str], folder: str, *, skip_existing: bool, overwrite: bool, keep_times: bool
) -> None:
    if storage.PIPE in (folder, *names):
        raise InputError("standard input and output are for single files")
    if skip_existing and overwrite:
        raise InputError("existing outputs can be skipped or replaced, not both")
    if keep_times and storage.is_url(folder):
        raise InputError(f"{folder}: the times of files behind a URL cannot be set")
    if not storage.is_url(folder) and os.path.lexists(folder) and not os.path.isdir(folder):
        raise OutputError(f"{folder}: is not a folder")


def _find(
    names: Sequence[str], endings: frozenset[str], recursive: bool
) -> list[tuple[str, PurePosixPath]]:
    """The files that the names mean, and where each lies below its root."""
    found: list[tuple[str, PurePosixPath]] = []
    kinds = [_kind(name) for name in names]
    for name, kind in zip(names, kinds, strict=True):
        files: list[tuple[str, PurePosixPath]]
        if kind == "pattern":
            files = list(storage.expand(name))
        elif kind == "folder":
            root = PurePosixPath(storage.base(name) if kinds.count("folder") > 1 else "")
            below = storage.walk(name, recursive=recursive)
            files = [(one, root / path) for one, path in below if path.suffix.lower() in endings]
        else:
            files = [(name, PurePosixPath(storage.base(name)))]
        if not files:
            hint = "" if recursive or kind != "folder" else " (--recursive looks below it)"
            log.warning("%s: no files to code%s", name, hint)
        found += files
    if not found:
        raise InputError(f"{', '.join(names)}: no files to code")
    return _once(found)


def _once(found: Iterable[tuple[str, PurePosixPath]]) -> list[tuple[str, PurePosixPath]]:
    """Every file by its first name: `a.png` and `./a.png` are one."""
    first: dict[tuple[str | PurePath, PurePosixPath], tuple[str, PurePosixPath]] = {}
    for name, below in found:
        file = name if storage.is_url(name) else PurePath(name)  # `//` in a URL means something
        first.setdefault((file, below), (name, below))
    return list(first.values())


def _kind(name: str) -> str:
    if storage.is_pattern(name):
        return "pattern"
    return "folder" if storage.is_folder(name) else "file"


def _endings(verb: Verb) -> frozenset[str]:
    """Which files of a folder are taken, by their ending in lower case."""
    if verb != "compress":
        return frozenset({AEC})
    from aecodec.pixels import image_endings

    return image_endings()


def _check_outputs(jobs: Sequence[Job]) -> None:
    """Find names that clash before anything is written."""
    first: dict[str, str] = {}
    clashes = []
    for job in jobs:
        taken = first.setdefault(os.path.normcase(job.output), job.source)
        if taken != job.source:
            clashes.append(f"{taken} and {job.source} would both become {job.output}")
    if clashes:
        more = f"; and {len(clashes) - _SHOWN} more" if len(clashes) > _SHOWN else ""
        raise InputError(f"{'; '.join(clashes[:_SHOWN])}{more}")
    sources = {os.path.normcase(os.path.abspath(job.source)) for job in jobs}
    for job in jobs:
        if os.path.normcase(os.path.abspath(job.output)) in sources:
            raise OutputError(f"{job.output}: is an input itself; give another --out")
