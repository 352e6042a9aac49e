"""Arguments that the commands of `aecodec explore` share, and how they end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aecodec.cli import options
from aecodec.cli.options import FILE, F, force
from aecodec.errors import InputError

if TYPE_CHECKING:
    from aecodec.explore.figures import Result
    from aecodec.explore.latents import Latents
    from aecodec.model.families import LatentModel

LATENTS = (".npz", ".npy")


def _before(text: str) -> Callable[[F], F]:
    """`--out`, `--force`, `--json`, `--quiet`."""
    parts = (
        click.option("-o", "--out", required=True, type=FILE, help=text),
        force,
        click.option("--json", "as_json", is_flag=True, help="Print the numbers, too, as JSON."),
        options.quiet,
    )
    return lambda function: reduce(lambda done, part: part(done), reversed(parts), function)


picture = _before("Picture to write, .png or .svg; the numbers go into a .json beside it.")
model = click.argument("model", metavar="MODEL")
seed = click.option(
    "--seed",
    default=0,
    show_default=True,
    type=options.SEED,
    help="Equal seeds give equal results.",
)
device = options.device
method = click.option(
    "--method",
    default="pca",
    show_default=True,
    type=click.Choice(["pca", "tsne", "umap", "none"]),
    help="How latents come onto the plane; none: as they are, if of 2 dimensions.",
)
test_files = click.option(
    "--test-files",
    type=FILE,
    metavar="FILE",
    help="Only the images that a text file names, relative to the folder: test_files.txt of a run.",
)
limit = click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only N images, spread over the folder.",
)
data = click.option(
    "--data",
    type=FILE,
    metavar="DIR",
    help="Folder of images, for models; not for files of latents.",
)


def load_model(name: str, device: str) -> LatentModel:
    """The model of that name, as analysis needs it."""
    from aecodec.model.families import load_model

    return load_model(name, device)


def load_latents(
    sources: Sequence[str],
    data: Path | None,
    *,
    limit: int | None,
    test_files: Path | None,
    device: str,
) -> list[Latents]:
    """Latents from files, or of the images of a folder by models.

    Raises:
        InputError: an option that files of latents do not take, or files or images that cannot
            be read.
        ModelError: the model cannot be used.
    """
    if all(source.lower().endswith(LATENTS) for source in sources):
        given = {"--data": data, "--limit": limit, "--test-files": test_files}
        for option, value in given.items():
            if value is not None:
                raise InputError(f"{sources[0]}: is a file of latents, which takes no {option}")
    return [_latents(source, data, limit, test_files, device) for source in sources]


def _latents(
    source: str, data: Path | None, limit: int | None, test_files: Path | None, device: str
) -> Latents:
    from aecodec import explore

    if source.lower().endswith(LATENTS):
        return explore.Latents.load(Path(source))
    note_unseen(source, test_files)
    if data is None:
        raise InputError(
            f"{source}: is taken for a model, which needs a folder of images (--data); files of "
            f"latents end in {' or '.join(LATENTS)}"
        )
    return explore.latents(load_model(source, device), data, limit=limit, test_files=test_files)


def note_unseen(model: str, test_files: Path | None) -> None:
    """A run knows which images it has not seen: say so where they are not asked for."""
    known = Path(model) / "test_files.txt"
    if test_files is None and known.is_file() and known.stat().st_size:
        say(f"aecodec: note: --test-files {known} leaves out what training saw")


def prepare(out: Path, force: bool, *sources: str | Path | None) -> None:
    """Fail before any work where picture or numbers cannot be written, or are an input."""
    from aecodec.explore.figures import check_outputs

    inputs = [Path(source) for source in sources if source is not None]
    inputs += [path.with_suffix(".json") for path in inputs if path.suffix.lower() == ".npy"]
    check_outputs(out, overwrite=force, sources=inputs)


def finish(result: Result, out: Path, force: bool, as_json: bool) -> None:
    """Write picture and numbers, and say where they are."""
    from aecodec.explore.figures import as_json as text
    from aecodec.explore.figures import write

    for path in write(result, out, overwrite=force):
        say(str(path))
    if as_json:
        click.echo(text(result.numbers()), nl=False)


def say(text: str) -> None:
    """A line on stderr, unless `--quiet`."""
    if logging.getLogger("aecodec").isEnabledFor(logging.INFO):
        click.echo(text, err=True)


def numbers(text: str | None, kind: type[int] | type[float], name: str) -> list[int | float] | None:
    """`1,2,3` as numbers; None stays None."""
    if text is None:
        return None
    try:
        return [kind(value) for value in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list such as 1,2,3", param_hint=name) from None
