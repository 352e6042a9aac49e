"""A benchmark's results as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from aecodec.errors import InputError, OutputError, cause_of
from aecodec.jsontext import as_json
from aecodec.measure.bdrate import BDRate, Curve, bd_rate, clean
from aecodec.measure.peers import OWN
from aecodec.measure.published import Published
from aecodec.measure.runner import METRICS, Measurement, average, speed
from aecodec.output import write_text

FORMAT = "aecodec-bench"
VERSION = 1
METRIC_NAMES = {"psnr": "PSNR", "ms_ssim_db": "MS-SSIM"}


@dataclass
class Report:
    """Everything one run found out."""

    header: dict[str, Any]
    codecs: list[dict[str, Any]]
    """name, label, settings and description of each codec, in plotting order."""
    anchor: str
    results: list[Measurement]
    curves: list[Curve] = field(default_factory=list)
    published: list[Curve] = field(default_factory=list)
    bd_rates: list[BDRate] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def label(self, codec: str) -> str:
        """What tables call a codec, measured or published."""
        return next((str(c["label"]) for c in self.codecs if c["name"] == codec), codec)

    def names(self) -> list[str]:
        """The measured codecs, then the published curves."""
        return [str(c["name"]) for c in self.codecs] + [c.codec for c in self.published]


def choose_anchor(anchor: str | None, codecs: Sequence[str], published: Published | None) -> str:
    """The codec that everything is compared with: jpeg, or the first, unless one is named.

    Raises:
        InputError: nothing that was measured or published has that name.
    """
    if anchor is None:
        return "jpeg" if "jpeg" in codecs else codecs[0]
    names = [*codecs, *([c.curve.codec for c in published.curves] if published else [])]
    if anchor not in names:
        raise InputError(f"the anchor {anchor!r} is not among {', '.join(names)}")
    return anchor


def build(
    header: dict[str, Any],
    codecs: list[dict[str, Any]],
    results: list[Measurement],
    *,
    anchor: str,
    published: Published | None = None,
) -> Report:
    """Average the curves and compute every BD-rate the tables show."""
    report = Report(header, codecs, anchor, results)
    if published is not None:
        report.published = [
            entry.curve
            for entry in published.curves
            if entry.kind == "published" or entry.curve.codec == anchor
        ]
        count = len({result.image for result in results})
        if count != published.images:
            report.notes.append(
                f"published curves are means over {published.dataset}; this run measured {count}"
            )
    for metric in METRICS:
        curves: dict[str, Curve] = {}
        for codec in codecs:
            curve, notes = clean(average(results, codec["name"], metric))
            curves[codec["name"]] = curve
            report.notes += notes
        report.curves += curves.values()
        curves.update({c.codec: clean(c)[0] for c in report.published if c.metric == metric})
        for name, base in _pairs(list(curves), anchor):
            if base in curves:
                report.bd_rates.append(bd_rate(curves[name], curves[base]))
    return report


def _pairs(names: Sequence[str], anchor: str) -> list[tuple[str, str]]:
    """(codec, anchor) of every comparison: aecodec with each, each with the anchor."""
    own = [(OWN, name) for name in names if OWN in names and name != OWN]
    rest = [(name, anchor) for name in names if name != anchor and (name, anchor) not in own]
    return own + rest


def to_json(report: Report) -> str:
    """The whole report; numbers that JSON has no word for (infinite PSNR) become null."""
    data = {"format": FORMAT, "format_version": VERSION, **report.header}
    data |= {"anchor": report.anchor, "codecs": report.codecs}
    data["curves"] = [asdict(curve) for curve in report.curves]
    data["published"] = [asdict(curve) for curve in report.published]
    data["speed_s_per_megapixel"] = {
        name: None if pair is None else {"encode": pair[0], "decode": pair[1]}
        for name, pair in _speeds(report).items()
    }
    data["bd_rates"] = [asdict(rate) for rate in report.bd_rates]
    data["notes"] = report.notes
    data["results"] = [asdict(result) for result in report.results]
    return as_json(data)


def _speeds(report: Report) -> dict[str, tuple[float, float] | None]:
    return {str(c["name"]): speed(report.results, str(c["name"])) for c in report.codecs}


def to_csv(report: Report) -> str:
    """One line a measurement; cells of what was not measured are empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    names = [column.name for column in fields(Measurement)]
    writer.writerow(names)
    writer.writerows([getattr(result, name) for name in names] for result in report.results)
    return text.getvalue()


def markdown(report: Report) -> str:
    """What was run, the speed table and the BD-rate tables."""
    head = report.header
    lines = [
        f"# Benchmark: {len(head['images'])} images of {head['dataset']}",
        "",
        f"{head['date']}, {head['machine']['cpu']}, {head['machine']['cores']} cores: "
        f"`{head['command']}`",
        "",
        *(f"- {codec['label']}: {codec['description']}" for codec in report.codecs),
        "",
    ]
    measured = {name: pair for name, pair in _speeds(report).items() if pair is not None}
    if measured:
        rows = ((report.label(n), f"{e:.3f}", f"{d:.3f}") for n, (e, d) in measured.items())
        lines += ["## Seconds per megapixel", ""]
        lines += [*table(("codec", "encoding", "decoding"), rows), ""]
    others = [name for name in report.names() if name != OWN]
    if OWN in report.names():
        lines += _bd_table(report, "aecodec against each", [(OWN, n) for n in others], of=1)
    rest = [(name, report.anchor) for name in report.names() if name != report.anchor]
    lines += _bd_table(report, f"Each against {report.label(report.anchor)}", rest, of=0)
    if report.notes:
        lines += ["## Notes", "", *(f"- {note}" for note in report.notes), ""]
    return "\n".join(lines)


def _bd_table(report: Report, title: str, pairs: Sequence[tuple[str, str]], of: int) -> list[str]:
    """A table of BD-rates, a row a pair, named after the `of`-th of the pair."""
    found = {(rate.codec, rate.anchor, rate.metric): rate for rate in report.bd_rates}
    rows = []
    for pair in pairs:
        rates = [found.get((*pair, metric)) for metric in METRICS]
        cells = [cell for rate in rates for cell in _cells(rate)]
        notes = "; ".join(
            f"{METRIC_NAMES[rate.metric]}: {rate.note}" for rate in rates if rate and rate.note
        )
        rows.append((report.label(pair[of]), *cells, notes))
    columns = ["codec"]
    for metric in METRICS:
        columns += [f"{METRIC_NAMES[metric]} BD-rate", "over (dB)"]
    explained = "Negative: smaller files at equal quality, over the range that both curves reach."
    lines = table((*columns, "note"), rows)
    return [f"## BD-rate: {title}", "", explained, "", *lines, ""]


def _cells(rate: BDRate | None) -> tuple[str, str]:
    if rate is None or rate.percent is None:
        return "–", "–"
    return f"{rate.percent:+.1f} %", f"{rate.low:.1f} to {rate.high:.1f}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown, its first column text and the others numbers."""
    rule = ["---"] + ["---:"] * (len(columns) - 1)
    return [f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)]


def write(report: Report, folder: Path) -> list[Path]:
    """Write report.md, results.csv and results.json, the last one last; returns their paths.

    Raises:
        OutputError: the folder cannot be written to.
    """
    texts = {
        "report.md": markdown(report),
        "results.csv": to_csv(report),
        "results.json": to_json(report),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: {cause_of(error)}") from error
    for name, text in texts.items():
        write_text(folder / name, text, overwrite=True)
    return [folder / name for name in texts]
