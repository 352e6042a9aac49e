"""Arguments that several commands share, and how sizes are written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

from aecodec.container import Limits
from aecodec.errors import InputError

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)  # whether it exists is for the library to say


def _hush(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    if value:
        logging.getLogger("aecodec").setLevel(logging.WARNING)
    return value


quiet = click.option("--quiet", is_flag=True, callback=_hush, help="Say nothing but errors.")
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
