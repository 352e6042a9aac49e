"""The report of an evaluation: JSON, plots and sheets in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aecodec.errors import OutputError, cause_of
from aecodec.figures import need_matplotlib, save
from aecodec.jsontext import as_json
from aecodec.measure.evaluate import Evaluation
from aecodec.measure.evaluate_plots import has_rates, histogram, rate_distortion
from aecodec.measure.evaluate_sheets import choose, settings, sheet
from aecodec.measure.evaluate_summary import numbers
from aecodec.output import check_folder, write_text

JSON, CURVES, HISTOGRAM, SHEETS = "evaluation.json", "rd.png", "psnr.png", "sheet-{}.png"


def check(out: Path, *, overwrite: bool = False) -> None:
    """Find out before any work that a report cannot be written.

    Raises:
        OutputError: the folder has a report already, or pictures of others under the names
            of its own, or cannot be made.
        MissingDependencyError: Matplotlib is not installed.
    """
    check_folder(out)
    need_matplotlib()
    if (out / JSON).exists() and not overwrite:
        raise OutputError(f"{out}: has an evaluation already; --force replaces it")
    pictures = [] if (out / JSON).exists() else _pictures(out)
    if pictures and not overwrite:
        raise OutputError(f"{pictures[0]}: is not of an evaluation; --force replaces it")


def write(found: Evaluation, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write `evaluation.json`, `psnr.png`, a `sheet-….png` for every quality, and `rd.png`
    where there are rates; a report that was there goes.

    Args:
        found: from `aecodec.measure.evaluate.evaluate`.
        out: the folder; made if it is not there.
        overwrite: whether a report in it may be replaced.

    Returns:
        The files.

    Raises:
        OutputError: they cannot be written.
        MissingDependencyError: Matplotlib is not installed.
    """
    check(out, overwrite=overwrite)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: {cause_of(error)}") from error
    before = _pictures(out) if (out / JSON).exists() else []
    text = as_json(numbers(found))
    write_text(out / JSON, text, overwrite=True)  # first: figures can be made again
    written = list(_draw(found, out))
    try:
        for path in set(before) - set(written):
            path.unlink()
    except OSError as error:
        raise OutputError(f"{out}: {cause_of(error)}") from error
    return [out / JSON, *written]


def _pictures(out: Path) -> list[Path]:
    """Whatever has the name of a report's picture."""
    names = (CURVES, HISTOGRAM, SHEETS.format("*"))
    return sorted(path for name in names for path in out.glob(name))


def _draw(found: Evaluation, out: Path) -> Iterator[Path]:
    """Every figure, as it is written."""
    if has_rates(found):
        save(rate_distortion(found), out / CURVES)
        yield out / CURVES
    save(histogram(found), out / HISTOGRAM)
    yield out / HISTOGRAM
    chosen = choose(found)
    for qualities in settings(found):
        name = "reconstruction" if qualities[0] is None else f"q{qualities[0]:g}"
        path = out / SHEETS.format(name)
        save(sheet(found, qualities, chosen), path)
        yield path
