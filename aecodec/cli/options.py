"""Arguments that several commands share, and how sizes are written."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

from aecodec.container import Limits
from aecodec.errors import InputError
from aecodec.progress import Progress

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)  # whether it exists is for the library to say


_UNITS = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6}
_UNITS |= {"kib": 2**10, "mib": 2**20}


def size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Callback for a number of bytes with an optional unit: `50kB` -> 50000."""
    if value is None:
        return None
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-zA-Z]*)\s*", value)
    if found is None or found[2].lower() not in _UNITS:
        raise click.BadParameter(f"{value!r} is not a size such as 50000, 50kB or 48KiB")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def _hush(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    if value:
        logging.getLogger("aecodec").setLevel(logging.WARNING)
    return value


quiet = click.option("--quiet", is_flag=True, callback=_hush, help="Say nothing but errors.")
strip = click.option("--strip", is_flag=True, help="Leave out EXIF, ICC profile and XMP.")
force = click.option("-f", "--force", is_flag=True, help="Replace the output if it exists.")


def model(default: str | None, text: str) -> Callable[[F], F]:
    """`--model`, whose default differs between coding and decoding."""
    return click.option("--model", default=default, metavar="NAME|FILE", help=text)


def machine(function: F) -> F:
    """`--device`, `--threads` and `--max-pixels`."""
    options = (
        click.option("--device", default="cpu", show_default=True, help="Where to compute: cuda."),
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            metavar="N",
            help="CPU threads.  [default: torch's choice]",
        ),
        max_pixels,
    )
    return reduce(lambda wrapped, option: option(wrapped), reversed(options), function)


max_pixels = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=Limits().max_pixels,
    show_default=True,
    metavar="N",
    help="Refuse larger images.",
)


def limits(pixels: int) -> Limits:
    """The default limits with another number of pixels."""
    return Limits(max_pixels=pixels)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress]:
    """A bar on stderr, only on a terminal, for what takes longer than a second."""
    from tqdm import tqdm

    hidden = quiet or not sys.stderr.isatty()
    with tqdm(unit="px", unit_scale=True, delay=1, leave=False, disable=hidden) as bar:

        def progress(done: int, expected: int) -> None:
            bar.total = expected
            bar.update(done - bar.n)

        yield progress


def human(size: int) -> str:
    """A number of bytes in decimal units: `940 B`, `12.3 kB`, `4.56 MB`."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.3g} {unit}"


def beside(source: Path, ending: str) -> Path:
    """The default output: the input's name with another ending.

    Raises:
        InputError: the input has no name to take, as `.` and `/` have none.
    """
    if not source.name or source.is_dir():
        raise InputError(f"{source}: is a directory")
    return source.with_suffix(ending)
