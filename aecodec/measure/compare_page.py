"""Comparisons as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from importlib import resources
from string import Template
from typing import Any

from PIL import Image

from aecodec._version import __version__
from aecodec.measure.compare import Coded, Comparison, Picture
from aecodec.measure.metrics import RGB

_WEBP_MAX_SIDE = 16383
_COLUMNS = ("codec", "quality", "bytes", "bpp", "PSNR, dB", "MS-SSIM")


def page(pictures: Sequence[Picture], *, codecs: Sequence[str]) -> str:
    """The page's HTML.

    Every picture is in it without loss, so that one sees what the codec gave. The
    numbers stand in tables that are legible without JavaScript.

    Args:
        pictures: what was compared.
        codecs: a line about each codec, for the foot of the page.
    """
    data = json.dumps({"pictures": [_data(picture) for picture in pictures]}, allow_nan=False)
    values = {
        "title": escape(_title(pictures)),
        "count": f"{len(pictures)} picture{'s' if len(pictures) != 1 else ''}",
        "style": _asset("compare.css"),
        "script": _asset("compare.js"),
        "data": data.replace("<", "\\u003c"),  # a file may be named `</script>`
        "sections": "\n".join(_section(i, picture) for i, picture in enumerate(pictures)),
        "codecs": "\n".join(f"<li>{escape(line)}</li>" for line in codecs),
        "version": escape(__version__),
    }
    return Template(_asset("compare.html")).substitute(values)


def picture_uri(pixels: RGB) -> str:
    """Pixels (H, W, 3) as a data URI: lossless WebP, or PNG where that is too large for it."""
    kind = "WEBP" if max(pixels.shape[:2]) <= _WEBP_MAX_SIDE else "PNG"
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def _asset(name: str) -> str:
    file = resources.files("aecodec.measure") / "data" / name
    return file.read_text(encoding="utf-8")


def _title(pictures: Sequence[Picture]) -> str:
    names = ", ".join(picture.name for picture in pictures[:3])
    return f"{names} and {len(pictures) - 3} more" if len(pictures) > 3 else names


def _data(picture: Picture) -> dict[str, Any]:
    """What the script needs of a picture."""
    return {
        "name": picture.name,
        "width": picture.pixels.shape[1],
        "height": picture.pixels.shape[0],
        "bytes": picture.bytes,
        "uri": picture_uri(picture.pixels),
        "comparisons": [
            {"quality": one.quality, "coded": [_coded(coded) for coded in one.coded]}
            for one in picture.comparisons
        ],
    }


def _coded(coded: Coded) -> dict[str, Any]:
    values = {k: v for k, v in asdict(coded).items() if k != "pixels"}
    values["psnr"] = coded.psnr if math.isfinite(coded.psnr) else None
    return {**values, "uri": picture_uri(coded.pixels)}


def _section(number: int, picture: Picture) -> str:
    """Heading, place for the viewer, and tables of one picture."""
    height, width = picture.pixels.shape[:2]
    tables = "\n".join(_table(one) for one in picture.comparisons)
    return f"""<section class="picture" data-picture="{number}" aria-labelledby="picture-{number}">
<h2 id="picture-{number}">{escape(picture.name)}</h2>
<p class="facts">{width} × {height} pixels, {_bytes(picture.bytes)} bytes</p>
<div class="tables">
{tables}
</div>
</section>"""


def _table(comparison: Comparison) -> str:
    """The numbers of one comparison; the best PSNR and MS-SSIM of files that fit are bold."""
    fitting = [one for one in comparison.coded if one.fits]
    best_psnr = max(one.psnr for one in fitting)
    best_ssim = max((one.ms_ssim for one in fitting if one.ms_ssim is not None), default=None)
    rows = "\n".join(_row(one, best_psnr, best_ssim) for one in comparison.coded)
    note = ""
    if len(fitting) < len(comparison.coded):
        note = '<p class="note">* the smallest file this codec makes, larger than aecodec’s</p>'
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    return f"""<figure><table>
<caption>At the size of aecodec, quality {comparison.quality:g}</caption>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table>{note}</figure>"""


def _row(one: Coded, best_psnr: float, best_ssim: float | None) -> str:
    cells = [
        f"{one.setting:g}",
        _bytes(one.bytes) + ("" if one.fits else "*"),
        f"{one.bpp:.3f}",
        _best("∞" if math.isinf(one.psnr) else f"{one.psnr:.2f}", one.psnr == best_psnr),
        "–" if one.ms_ssim is None else _best(f"{one.ms_ssim:.4f}", one.ms_ssim == best_ssim),
    ]
    columns = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(one.label)}</th>{columns}</tr>'


def _best(text: str, best: bool) -> str:
    return f"<strong>{text}</strong>" if best else text


def _bytes(count: int) -> str:
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
