"""`aecodec bench`: measure aecodec and other codecs on a folder of images."""

from __future__ import annotations

import shlex
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aecodec.cli import options
from aecodec.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aecodec.measure.peers import Peer
    from aecodec.measure.plots import Plot
    from aecodec.measure.published import Published
    from aecodec.measure.report import Report
    from aecodec.measure.runner import Measurement


@click.command("bench", short_help="Measure codecs on a folder of images.")
@click.argument("folder", metavar="DIR", type=options.FILE)
@click.option(
    "--out",
    "-o",
    required=True,
    type=options.FILE,
    metavar="REPORT",
    help="Folder for results.json, results.csv, report.md, rd.png and rd.svg.",
)
@click.option(
    "--codecs",
    metavar="NAME,...",
    help="Which to measure: aecodec, jpeg, webp, avif-s4, avif-s6, jxl. Default: all available.",
)
@click.option(
    "--qualities",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many qualities of each codec to measure. Default: 8.",
)
@click.option(
    "--points",
    multiple=True,
    metavar="NAME=Q,...",
    help="The qualities of one codec, e.g. jpeg=10,30,50. May be repeated.",
)
@click.option("--model", help="The aecodec model: a name or a weights file.")
@click.option(
    "--effort",
    type=click.IntRange(0, 9),
    default=0,
    show_default=True,
    metavar="0-9",
    help="That of aecodec.",
)
@click.option("--anchor", help="The codec that all are compared with. Default: jpeg.")
@click.option(
    "--published",
    metavar="SET",
    help="Also draw, and compare with, curves published for this test set: kodak.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N images.")
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Time each coding N times and keep the median.",
)
@click.option("--no-time", is_flag=True, help="Record no times.")
@click.option("--force", "-f", is_flag=True, help="Replace an existing report.")
@click.pass_context
def command(ctx: click.Context, /, folder: Path, out: Path, **given: Any) -> None:
    """Encode and decode every image of DIR with aecodec and other codecs.

    Files are made and read back for real; the report has sizes, PSNR, MS-SSIM, times,
    rate-distortion plots and BD-rates. docs/benchmarks.md says how each is measured.

    \b
    Example:
      aecodec bench kodak/ --out report --published kodak
    """
    from aecodec.figures import need_matplotlib
    from aecodec.imagefiles import find_images
    from aecodec.measure import peers as codecs
    from aecodec.measure.published import load_published
    from aecodec.measure.report import choose_anchor
    from aecodec.measure.runner import check_images
    from aecodec.output import check_folder

    paths = find_images(folder, below=False)[: given["limit"]]
    check_folder(out)
    need_matplotlib()
    if out.exists() and out.samefile(folder):
        raise OutputError(f"{out}: has the images, and the report has pictures; give another --out")
    for name in ("results.json", "results.csv", "report.md", "rd.png", "rd.svg"):
        if (out / name).exists() and not given["force"]:
            raise OutputError(f"{out}: has {name} already; --force replaces it")
    published = load_published(given["published"]) if given["published"] else None
    names = None if given["codecs"] is None else options.codec_names(given["codecs"])
    peers = codecs.make_peers(names, model=given["model"], effort=given["effort"])
    anchor = choose_anchor(given["anchor"], [peer.name for peer in peers], published)
    points = {peer.name: codecs.ladder(peer.settings, given["qualities"]) for peer in peers}
    points.update(_points(given["points"], peers))
    check_images(paths)

    results = _measure(paths, peers, points, given)
    header = _header(_command_line(ctx), folder, results, given)
    header["model"] = next((p.model_id for p in peers if isinstance(p, codecs.Aecodec)), None)
    described = [
        {"name": p.name, "label": p.label, "settings": points[p.name], "description": p.describe()}
        for p in peers
    ]
    _write(header, described, results, anchor, published, out)


def _points(texts: Sequence[str], peers: Sequence[Peer]) -> dict[str, list[float]]:
    """Read every `NAME=Q,...`; those of one codec belong together."""
    known = {peer.name: peer for peer in peers}
    points: dict[str, set[float]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        try:
            settings = {float(value) for value in values.split(",")}
        except ValueError:
            raise InputError(f"--points {text}: not of the form NAME=Q,...") from None
        if name not in known:
            raise InputError(f"--points {text}: {name} is not measured")
        low, high = known[name].range
        kind = "whole numbers" if known[name].whole else "numbers"
        for value in settings:
            fits = low <= value <= high and (value.is_integer() or not known[name].whole)
            if not fits:
                raise InputError(
                    f"--points {text}: {value:g}: qualities of {name} are {kind} "
                    f"from {low:g} to {high:g}"
                )
        points.setdefault(name, set()).update(settings)
    return {name: sorted(settings) for name, settings in points.items()}


def _measure(
    paths: Sequence[Path],
    peers: Sequence[Peer],
    points: dict[str, list[float]],
    given: dict[str, Any],
) -> list[Measurement]:
    """Run it all under a progress bar (on stderr)."""
    from tqdm import tqdm

    from aecodec.measure.runner import run

    clock = not given["no_time"]
    results = []
    total = len(paths) * sum(len(settings) for settings in points.values())
    with tqdm(total=total, unit="file", disable=None) as bar:
        repeats = given["repeats"] if clock else 1
        for result in run(paths, peers, points, repeats=repeats, clock=clock):
            bar.set_postfix_str(f"{result.image} {result.codec}", refresh=False)
            bar.update()
            results.append(result)
    return results


def _command_line(ctx: click.Context) -> str:
    """The command as it would be typed again: arguments and options that were given."""
    words = ["aecodec", "bench"]
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        source = ctx.get_parameter_source(parameter.name or "")
        if source is click.core.ParameterSource.DEFAULT or parameter.name == "force":
            continue
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif value is True:
            words.append(parameter.opts[0])
        else:
            for item in value if isinstance(value, tuple) else (value,):
                words += [parameter.opts[0], str(item)]
    return shlex.join(words)


def _header(
    command_line: str, folder: Path, results: Sequence[Measurement], given: dict[str, Any]
) -> dict[str, Any]:
    """What was run, on what, when."""
    from aecodec.measure import environment

    images = {r.image: {"name": r.image, "width": r.width, "height": r.height} for r in results}
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command_line,
        "dataset": folder.resolve().name,
        "repeats": None if given["no_time"] else given["repeats"],
        "machine": environment.machine(),
        "versions": environment.versions(),
        "images": list(images.values()),
    }


def _write(
    header: dict[str, Any],
    described: list[dict[str, Any]],
    results: list[Measurement],
    anchor: str,
    published: Published | None,
    out: Path,
) -> None:
    """Compute the comparisons, write all files, say where they are."""
    from aecodec.measure import plots, report

    made = report.build(header, described, results, anchor=anchor, published=published)
    written = report.write(made, out)
    drawn = [out / "rd.png", out / "rd.svg"]
    plots.draw(_plot(made, published), drawn)
    for path in [*written, *drawn]:
        click.echo(path)


def _plot(made: Report, published: Published | None) -> Plot:
    """What the plot shows of a report."""
    from aecodec.measure.plots import Plot

    count = len(made.header["images"])
    grey = f"; grey: published, {published.dataset}" if published else ""
    return Plot(
        title=f"Rate-distortion, mean of {count} images ({made.header['dataset']}){grey}",
        curves=made.curves,
        labels={codec["name"]: codec["label"] for codec in made.codecs},
        published=[c.curve for c in published.curves if c.drawn] if published else [],
    )
