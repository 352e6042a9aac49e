"""Arguments that several commands share, and how sizes are written."""

from __future__ import annotations

import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from aecodec.cli.main import NOTES
from aecodec.container import Limits
from aecodec.errors import InputError
from aecodec.progress import Progress
from aecodec.storage import PIPE, is_url

F = TypeVar("F", bound=Callable[..., Any])


class _Name(click.Path):
    """A path that is not empty, as that of an unset variable is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


class FloatRange(click.FloatRange):
    """A range that NaN lies outside of."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number", param, ctx)
        return number


SEED = click.IntRange(0, 2**32 - 1)  # what all libraries take
FILE = _Name(path_type=Path)  # whether it exists is for the library to say
NAME = _Name(path_type=str, allow_dash=True)  # of a file, a folder, a URL; `-`


_UNITS = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6}
_UNITS |= {"kib": 2**10, "mib": 2**20}


def size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Callback for a number of bytes with an optional unit: `50kB` -> 50000."""
    if value is None:
        return None
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-zA-Z]*)\s*", value)
    if found is None or found[2].lower() not in _UNITS:
        raise click.BadParameter(f"{value!r} is not a size such as 50000, 50kB or 48KiB")
    return int(Decimal(found[1]) * _UNITS[found[2].lower()])


def _hush(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    for handler in logging.getLogger("aecodec").handlers if value else ():
        if handler.get_name() == NOTES:  # not the logger: `--json` has notes all the same
            handler.setLevel(logging.WARNING)
    return value


def _talk(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    if value:
        logging.getLogger("aecodec").setLevel(logging.DEBUG)
    return value


quiet = click.option("--quiet", is_flag=True, callback=_hush, help="Say nothing but errors.")
verbose = click.option("-v", "--verbose", is_flag=True, callback=_talk, help="Say more.")
as_json = click.option("--json", "as_json", is_flag=True, help="A JSON object a file on stdout.")
strip = click.option("--strip", is_flag=True, help="Leave out EXIF, ICC profile and XMP.")
force = click.option("-f", "--force", is_flag=True, help="Replace the output if it exists.")


def complete_format(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Endings of the formats that images are written in."""
    from aecodec.pixels import WRITERS

    return [end[1:] for end in WRITERS if end[1:].startswith(incomplete)]


def _complete_model(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of the installed models, then files."""
    from aecodec.model.weights import available_models

    names = [one.name for one in available_models() if one.name.startswith(incomplete)]
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]


def _complete_device(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in ("cpu", "cuda") if name.startswith(incomplete)]


def model(default: str | None, text: str) -> Callable[[F], F]:
    """`--model`, whose default differs between coding and decoding."""
    return click.option(
        "--model",
        default=default,
        metavar="NAME|FILE",
        shell_complete=_complete_model,
        help=text,
    )


device = click.option(
    "--device",
    default="cpu",
    show_default=True,
    shell_complete=_complete_device,
    help="Where to compute: cuda.",
)

threads = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="CPU threads.  [default: torch's choice]",
)

max_pixels = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=Limits().max_pixels,
    show_default=True,
    metavar="N",
    help="Refuse larger images.",
)


def machine(function: F) -> F:
    """`--device`, `--threads` and `--max-pixels`."""
    return device(threads(max_pixels(function)))


def limits(pixels: int) -> Limits:
    """The default limits with another number of pixels."""
    return Limits(max_pixels=pixels)


@contextmanager
def progress_bar(quiet: bool, verbose: bool = False) -> Iterator[Progress]:
    """A bar on stderr for what takes longer than a second; on a terminal, or if asked for."""
    from tqdm import tqdm

    hidden = quiet or not (verbose or sys.stderr.isatty())
    with tqdm(unit="px", unit_scale=True, delay=1, leave=False, disable=hidden) as bar:

        def progress(done: int, expected: int) -> None:
            if done == 0:  # the clock starts when the model is loaded
                bar.reset(expected)
            bar.total = expected
            bar.update(done - bar.n)

        yield progress


def codec_names(text: str) -> list[str]:
    """The names in the `a,b,...` of `--codecs`.

    Raises:
        InputError: there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError("--codecs names no codec")
    return names


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


def beside(source: str, ending: str) -> str:
    """The default output: the input's name with another ending, or `-` for `-`.

    Raises:
        InputError: the input is a folder.
    """
    if source == PIPE:
        return PIPE
    if not is_url(source) and Path(source).is_dir():
        raise InputError(f"{source}: is a directory; --out FOLDER codes what is in it")
    root, _ = os.path.splitext(source)
    return f"{root}{ending}"
