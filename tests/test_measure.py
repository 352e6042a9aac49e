"""Metrics, BD-rate, published curves and reports against values known by other means."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aecodec.errors import InputError
from aecodec.measure.bdrate import Curve, bd_rate, clean
from aecodec.measure.metrics import decibels, ms_ssim, psnr
from aecodec.measure.peers import PEERS, ladder, make_peers
from aecodec.measure.published import load_published
from aecodec.measure.report import build, choose_anchor, markdown, to_json
from aecodec.measure.runner import Measurement, average, load_image, speed

RATES = (0.1, 0.25, 0.5, 1.0, 2.0)
QUALITIES = (27.0, 30.0, 33.1, 36.5, 40.2)
ANCHOR = Curve("anchor", "psnr", RATES, QUALITIES)


def result(image: str, setting: float, bpp: float, quality: float, **more: object) -> Measurement:
    values: dict[str, object] = {
        "image": image,
        "codec": "x",
        "setting": setting,
        "width": 1000,
        "height": 500,
        "bytes": 1,
        "bpp": bpp,
        "psnr": quality,
        "ms_ssim": 0.9,
        "encode_s": 1.0,
        "decode_s": 0.5,
    }
    return Measurement(**{**values, **more})  # type: ignore[arg-type]


def test_psnr_of_known_differences() -> None:
    black = np.zeros((8, 10, 3), np.uint8)
    assert psnr(black, black) == math.inf
    assert psnr(black, black + 255) == pytest.approx(0)
    assert psnr(black, black + 1) == pytest.approx(48.1308, abs=1e-4)
    one_sample = black.copy()
    one_sample[3, 4, 1] = 255  # one of 240
    assert psnr(black, one_sample) == pytest.approx(10 * math.log10(240))
    with pytest.raises(InputError):
        psnr(black, black[:4])


def test_psnr_agrees_with_scikit_image() -> None:
    from skimage import metrics

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 33, 21, 3), dtype=np.uint8)
    assert psnr(a, b) == pytest.approx(metrics.peak_signal_noise_ratio(a, b))


def test_ms_ssim_needs_161_pixels_and_falls_with_noise() -> None:
    rng = np.random.default_rng(1)
    smooth = np.add.outer(np.arange(161), np.arange(170))[..., None] % 200 + np.zeros(3)
    image = smooth.astype(np.uint8)
    assert ms_ssim(image[:160], image[:160]) is None
    assert ms_ssim(image, image) == pytest.approx(1, abs=1e-6)
    noisy = [
        np.clip(image + rng.normal(0, sigma, image.shape), 0, 255).astype(np.uint8)
        for sigma in (5, 30)
    ]
    weak, strong = (ms_ssim(image, other) for other in noisy)
    assert weak is not None and strong is not None
    assert 1 > weak > strong > 0


def test_similarity_in_decibels() -> None:
    assert decibels(0.9) == pytest.approx(10)
    assert decibels(0.999) == pytest.approx(30)
    assert decibels(1.0) == math.inf


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.3])
def test_bd_rate_of_scaled_rates_is_the_scale(factor: float) -> None:
    scaled = Curve("scaled", "psnr", tuple(factor * rate for rate in RATES), QUALITIES)
    found = bd_rate(scaled, ANCHOR)
    assert found.percent == pytest.approx(100 * (factor - 1), abs=1e-9)
    assert (found.low, found.high, found.note) == (27.0, 40.2, "")


def test_bd_rate_agrees_with_pchip_integrated_here() -> None:
    from scipy import interpolate

    other = Curve("other", "psnr", (0.14, 0.3, 0.7, 1.1), (28.2, 31.5, 35.9, 38.8))
    found = bd_rate(other, ANCHOR)
    assert (found.low, found.high) == (28.2, 38.8)

    grid = np.linspace(28.2, 38.8, 20001)
    logs = [
        interpolate.PchipInterpolator(curve.quality, np.log(curve.bpp))(grid)
        for curve in (other, ANCHOR)
    ]
    mean = float(np.mean((logs[0] - logs[1])[:-1] + np.diff(logs[0] - logs[1]) / 2))
    assert found.percent == pytest.approx(100 * math.expm1(mean), abs=1e-4)


def test_bd_rate_says_why_there_is_none() -> None:
    above = Curve("above", "psnr", (1.0, 2.0), (50.0, 52.0))
    assert bd_rate(above, ANCHOR).percent is None
    assert "share no quality" in bd_rate(above, ANCHOR).note
    assert "two points" in bd_rate(Curve("one", "psnr", (1.0,), (30.0,)), ANCHOR).note


def test_bd_rate_warns_of_a_narrow_overlap() -> None:
    high = Curve("high", "psnr", (1.0, 2.0, 3.0), (39.0, 41.0, 44.0))
    found = bd_rate(high, ANCHOR)
    assert found.percent is not None
    assert "less than half" in found.note and "points" in found.note


def test_clean_sorts_and_drops_with_a_note(caplog: pytest.LogCaptureFixture) -> None:
    curve = Curve("x", "psnr", (0.5, 0.1, 0.3, 0.4, 0.9), (33.0, 28.0, 31.0, 30.5, math.inf))
    with caplog.at_level(logging.WARNING):
        cleaned, notes = clean(curve)
    assert cleaned == Curve("x", "psnr", (0.1, 0.3, 0.5), (28.0, 31.0, 33.0))
    assert len(notes) == 2
    assert notes == [record.getMessage() for record in caplog.records]
    assert "30.500 dB at 0.4000 bpp is no better" in notes[0]


def test_published_curves_give_the_known_comparisons() -> None:
    published = load_published("kodak")
    curves = {entry.curve.codec: entry.curve for entry in published.curves}
    vtm = curves["VTM (VVC intra)"]

    def against_vtm(name: str) -> float | None:
        return bd_rate(curves[name], vtm).percent

    assert against_vtm("JPEG (Pillow, optimize, 4:2:0) [measured]") == pytest.approx(174, abs=1)
    assert against_vtm("JPEG (published)") == pytest.approx(208.5, abs=1)
    assert against_vtm("BPG 4:4:4") == pytest.approx(22, abs=1)
    assert against_vtm("ELIC (paper)") == pytest.approx(-7, abs=1)


def test_published_curves_keep_sources_and_rise() -> None:
    published = load_published("kodak")
    assert published.images == 24
    assert "InterDigital" in published.attribution
    assert all(entry.source for entry in published.curves)
    assert {entry.kind for entry in published.curves} == {"published", "measured"}
    for entry in published.curves:
        assert clean(entry.curve) == (entry.curve, [])
    with pytest.raises(InputError, match="kodak"):
        load_published("nonesuch")


def test_curves_average_rate_and_quality_over_images() -> None:
    results = [
        result("a", 2, 1.0, 40.0, ms_ssim=0.99),
        result("a", 1, 0.2, 30.0, ms_ssim=0.90),
        result("b", 1, 0.4, 32.0, ms_ssim=None),
        result("b", 2, 2.0, 42.0, ms_ssim=None),
    ]
    curve = average(results, "x", "psnr")
    assert curve.bpp == pytest.approx((0.3, 1.5)) and curve.quality == pytest.approx((31, 41))
    similarity = average(results, "x", "ms_ssim_db")
    assert similarity.bpp == pytest.approx((0.2, 1.0))
    assert similarity.quality == pytest.approx((10, 20))
    assert speed(results, "x") == pytest.approx((2, 1))
    assert speed([*results, result("c", 1, 0.2, 30.0, encode_s=None)], "x") is None


def test_report_tables_compare_aecodec_with_each_and_each_with_the_anchor() -> None:
    codecs = [{"name": n, "label": n.upper(), "description": ""} for n in ("aecodec", "jpeg")]
    results = [
        result("a", i, scale * rate, quality, codec=name)
        for name, scale in (("aecodec", 0.5), ("jpeg", 1.0))
        for i, (rate, quality) in enumerate(zip(RATES, QUALITIES, strict=True))
    ]
    results.append(result("a", 9, 9.0, math.inf, codec="jpeg"))
    header = {
        "images": [{}],
        "dataset": "d",
        "date": "t",
        "command": "c",
        "machine": {"cpu": "p", "cores": 1},
    }
    report = build(header, codecs, results, anchor="jpeg", published=load_published("kodak"))
    text = markdown(report)
    assert "| JPEG | -50.0 % | 27.0 to 40.2 |" in text
    assert "| AECODEC | -50.0 % | 27.0 to 40.2 |" in text
    assert text.count("| VTM (VVC intra) |") == 2
    assert "means over Kodak (24 images)" in text and "not finite" in text
    data = json.loads(to_json(report))
    assert data["results"][-1]["psnr"] is None
    assert len({(r["codec"], r["anchor"], r["metric"]) for r in data["bd_rates"]}) == len(
        data["bd_rates"]
    )


def test_anchor_is_jpeg_unless_named() -> None:
    assert choose_anchor(None, ["webp", "jpeg"], None) == "jpeg"
    assert choose_anchor(None, ["webp"], None) == "webp"
    assert choose_anchor("BPG 4:4:4", ["webp"], load_published("kodak")) == "BPG 4:4:4"
    with pytest.raises(InputError, match="nonesuch"):
        choose_anchor("nonesuch", ["webp"], None)


def test_ladder_keeps_the_range() -> None:
    assert ladder((5, 10, 20, 95)) == [5, 10, 20, 95]
    assert ladder((5, 10, 20, 95), 2) == [5, 95]
    assert ladder((0, 10, 20), 5) == [0, 5, 10, 15, 20]
    assert len(ladder((0, 10, 20), 1)) == 1
    with pytest.raises(InputError):
        ladder((0, 10), 0)


@pytest.mark.parametrize("name", [n for n in PEERS if n != "aecodec"])
def test_every_peer_codes_a_small_picture(name: str) -> None:
    if not PEERS[name].available():
        pytest.skip(f"{name} is not available here")
    (peer,) = make_peers([name])
    y, x = np.mgrid[:40, :56]
    image = np.stack([4 * x, 6 * y, 2 * (x + y)], -1).astype(np.uint8)
    settings = list(peer.settings)
    assert settings == sorted(set(settings)) and len(settings) == 8
    low, high = (peer.encode(image, settings[i]) for i in (1, 6))
    assert len(low) < len(high)
    decoded = [peer.decode(data) for data in (low, high)]
    assert all(d.shape == image.shape and d.dtype == np.uint8 for d in decoded)
    assert psnr(image, decoded[0]) < psnr(image, decoded[1])
    assert peer.encode(image, settings[1]) == low
    assert any(character.isdigit() for character in peer.describe())


def test_unknown_peer_is_refused() -> None:
    with pytest.raises(InputError, match="jpeg"):
        make_peers(["jpeg3000"])


def test_images_are_read_as_rgb(tmp_path: Path) -> None:
    Image.new("L", (4, 3), 9).save(tmp_path / "b.png")
    Image.new("RGB", (4, 3)).save(tmp_path / "a.PNG")
    Image.new("I;16", (4, 3)).save(tmp_path / "deep.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert (load_image(tmp_path / "b.png") == 9).all()
    assert load_image(tmp_path / "b.png").shape == (3, 4, 3)
    with pytest.raises(InputError, match="16 bits"):
        load_image(tmp_path / "deep.png")
    with pytest.raises(InputError, match="broken"):
        load_image(tmp_path / "broken.png")
    whole = (tmp_path / "a.PNG").read_bytes()
    (tmp_path / "odd.png").write_bytes(whole.replace(b"IDAT", b"ID\0T"))
    with pytest.raises(InputError, match="odd"):
        load_image(tmp_path / "odd.png")
