"""How good a model is on a folder of images: through real files, or by reconstruction."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aecodec.errors import InputError, naming
from aecodec.imagefiles import find_images, listed, relative, spread
from aecodec.measure.evaluate_subject import Original, Subject
from aecodec.measure.metrics import mean_errors, ms_ssim, psnr_of, ssim
from aecodec.rate import quality_index
from aecodec.samples import Samples, bit_depth

log = logging.getLogger(__name__)

QUALITIES = (10.0, 30.0, 50.0, 70.0, 90.0)


@dataclass(frozen=True)
class Measured:
    """One image, as it came back from one model at one quality.

    Attributes:
        image: path relative to the folder.
        model: label of the model.
        quality: 1 to 100; None for reconstruction without quantisation, without a file.
        width, height: in pixels, as the model got it.
        valid: fraction of the pixels that is; the others count nowhere.
        psnr: dB; inf if all samples came back.
        ssim: None for images too small for it.
        ms_ssim: likewise; invalid samples count as equal.
        mae, rmse: in the units of the files' samples.
        sample_bits: of these samples, 8 or 16.
        bytes: of the `.aec` file.
        bpp: bits of the file per pixel.
    """

    image: str
    model: str
    quality: float | None
    width: int
    height: int
    valid: float
    psnr: float
    ssim: float | None
    ms_ssim: float | None
    mae: float
    rmse: float
    sample_bits: int = 8
    bytes: int | None = None
    bpp: float | None = None

    @property
    def bits(self) -> int | None:
        """Of the `.aec` file."""
        return None if self.bytes is None else 8 * self.bytes


@dataclass
class Evaluation:
    """What was measured, of one model or of two.

    Attributes:
        data: the folder of images.
        subjects: label -> the model, in order.
        settings: label -> the qualities measured.
        paths: image -> its file, of those that could be read.
        results: image by image, model by model, quality by quality.
        skipped: image -> why it was left out.
    """

    data: Path
    subjects: dict[str, Subject]
    settings: dict[str, tuple[float | None, ...]]
    paths: dict[str, Path] = field(default_factory=dict)
    results: list[Measured] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def of(self, model: str, quality: float | None) -> list[Measured]:
        """The results of a model at a quality, in the order of the images."""
        return [r for r in self.results if (r.model, r.quality) == (model, quality)]


def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | None = None,
    qualities: Sequence[float] = QUALITIES,
    test_files: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], Any] | None = None,
) -> Evaluation:
    """Measure a model, or two side by side, on the images of a folder.

    Every image becomes a real `.aec` file at every quality, where the model can do that;
    models without files (run folders, checkpoints, skips) are measured by reconstruction.
    `aecodec.measure.evaluate_report.write` makes a report of the result.

    Args:
        model: name of an installed model, a model file, a checkpoint or a run folder.
        data: folder of images.
        against: another model, measured on the same images.
        qualities: each 1 to 100.
        test_files: text file with the images to take, one path relative to `data` a line, as
            in a run folder. None takes all.
        limit: at most so many images, spread evenly over the sorted list.
        device: "cpu", "cuda", ...
        progress: called with images done and images to do.

    Raises:
        InputError: no usable images, or a quality out of range.
        ModelError: a model cannot be found or used.
        MissingDependencyError: the extra `aecodec[bench]` is not installed.
    """
    wanted = tuple(sorted({float(quality) for quality in qualities}))
    if not wanted:
        raise InputError("no quality to measure at")
    for quality in wanted:
        quality_index(quality)
    folder = Path(data)
    files = _files(folder, None if test_files is None else Path(test_files), limit)
    subjects = [Subject(one, device) for one in (model, against) if one is not None]
    labelled = dict(zip(_labels([s.name for s in subjects]), subjects, strict=True))
    found = Evaluation(folder, labelled, {k: s.settings(wanted) for k, s in labelled.items()})
    for done, path in enumerate(files):
        if progress is not None:
            progress(done, len(files))
        _measure(found, path)
    if progress is not None:
        progress(len(files), len(files))
    if not found.results:
        cause = next(iter(found.skipped.values()))
        raise InputError(f"{folder}: none of {len(files)} images can be used: {cause}")
    if len({result.sample_bits for result in found.results}) > 1:
        log.warning("%s: images of 8 and of 16 bits a sample: no means of MAE and RMSE", folder)
    return found


def _files(folder: Path, test_files: Path | None, limit: int | None) -> list[Path]:
    paths = find_images(folder) if test_files is None else listed(test_files, folder)
    return spread(paths, limit)


def _labels(names: list[str]) -> list[str]:
    """Names that differ."""
    if len(set(names)) == len(names):
        return names
    return [f"{name} ({number})" for number, name in enumerate(names, 1)]


def _measure(found: Evaluation, path: Path) -> None:
    """An image with every model at every quality; one that a model cannot take is left out."""
    name = relative(path, found.data)
    try:
        originals = {label: subject.read(path) for label, subject in found.subjects.items()}
        with naming(str(path)):
            results = [
                judge(
                    originals[label], *subject.run(originals[label], quality), name, label, quality
                )
                for label, subject in found.subjects.items()
                for quality in found.settings[label]
            ]
    except InputError as error:
        log.warning("skipped: %s", error)
        found.skipped[name] = str(error)
        return
    found.paths[name] = path
    found.results += results


def judge(
    original: Original,
    back: Samples,
    size: int | None,
    image: str,
    model: str,
    quality: float | None,
) -> Measured:
    """Compare what came back with the original, over its valid pixels."""
    height, width = original.samples.shape[:2]
    everywhere = bool(original.valid.all())
    valid = None if everywhere else original.valid
    mae, mse = mean_errors(original.samples, back, valid)
    peak = original.peak
    # invalid samples made equal: similarity looks at neighbourhoods
    same = back if everywhere else _filled(original, back)
    return Measured(
        image=image,
        model=model,
        quality=quality,
        width=width,
        height=height,
        valid=float(original.valid.mean()),
        psnr=psnr_of(mse, peak),
        ssim=ssim(original.samples, same, peak=peak, valid=valid),
        ms_ssim=ms_ssim(original.samples, same, peak=peak),
        mae=mae,
        rmse=math.sqrt(mse),
        sample_bits=bit_depth(original.samples),
        bytes=size,
        bpp=None if size is None else 8 * size / (width * height),
    )


def _filled(original: Original, back: Samples) -> Samples:
    valid = original.valid if back.ndim == 2 else original.valid[:, :, None]
    return np.where(valid, back, original.samples)
