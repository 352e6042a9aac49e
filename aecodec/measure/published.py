"""Rate-distortion curves published for well-known test sets, to draw and to compare with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

from aecodec.errors import InputError
from aecodec.measure.bdrate import Curve

DATASETS = ("kodak",)


@dataclass(frozen=True)
class PublishedCurve:
    """One codec's PSNR curve, averaged over the test set's images."""

    curve: Curve
    kind: str
    """`published`, or `measured` for the reference run that comes with the data."""
    source: str
    drawn: bool
    """Whether plots show it: a few well-known ones do, so that plots stay legible."""


@dataclass(frozen=True)
class Published:
    """The curves for one test set."""

    dataset: str
    images: int
    """How many images the curves are means of."""
    metric: str
    attribution: str
    curves: list[PublishedCurve]


def load_published(dataset: str) -> Published:
    """The packaged curves for `dataset`, one of `DATASETS`.

    Raises:
        InputError: there are none for it.
    """
    if dataset not in DATASETS:
        raise InputError(f"no published curves for {dataset!r}; there are {', '.join(DATASETS)}")
    file = resources.files("aecodec.measure") / "data" / f"{dataset}_published.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    curves = [
        PublishedCurve(
            Curve(entry["label"], "psnr", tuple(entry["bpp"]), tuple(entry["psnr"])),
            kind=entry["kind"],
            source=entry["source"],
            drawn=entry["drawn"],
        )
        for entry in data["curves"]
    ]
    return Published(data["dataset"], data["images"], data["metric"], data["attribution"], curves)
