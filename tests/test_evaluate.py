"""Evaluation: its numbers are those of the files, masks hold, and the report is all there."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file
from skimage.metrics import structural_similarity

from aecodec.cli.evaluate import command
from aecodec.codec import Codec
from aecodec.errors import InputError, MissingDependencyError, OutputError, UnknownModelError
from aecodec.explore.figures import check_outputs
from aecodec.measure import evaluate_report
from aecodec.measure.evaluate import Evaluation, Measured, evaluate, judge
from aecodec.measure.evaluate_sheets import choose, settings
from aecodec.measure.evaluate_subject import Subject
from aecodec.measure.evaluate_summary import comparison, numbers, points, summary
from aecodec.measure.metrics import mean_errors, ms_ssim, psnr, ssim
from aecodec.model.bottleneck import BottleneckAutoencoder, BottleneckConfig
from aecodec.modelimages import ModelImages
from aecodec.train.export import export
from aecodec.train.prepare import DataConfig, load, prepare, to_samples

DEPTH = {"bits": 16, "channels": 1, "maximum": 10000, "invalid": 0}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def bottleneck(
    folder: Path, seed: int = 1, data: dict[str, Any] | None = None, **shape: Any
) -> Path:
    """A run folder of a model that has learnt nothing yet."""
    torch.manual_seed(seed)
    config = BottleneckConfig.from_dict(
        {"height": 32, "width": 48, "latent_dim": 4, "widths": [8, 8], **shape}
    )
    tensors = {f"ema.{k}": v for k, v in BottleneckAutoencoder(config).state_dict().items()}
    settings = {
        "family": "bottleneck",
        "model": dataclasses.asdict(config),
        "data": {"height": 32, "width": 48, **(data or {})},
    }
    folder.mkdir()
    meta = {"aecodec": json.dumps({"config": settings, "step": 7})}
    save_file(tensors, folder / "last.safetensors", metadata=meta)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> Path:
    """Two pictures in folders, one gray, and a file that is none."""
    folder = tmp_path_factory.mktemp("images")
    for name in ("a", "b"):
        (folder / name).mkdir()
    Image.fromarray(photo[:176, :192]).save(folder / "a" / "flower.png")
    Image.fromarray(photo[40:90, 60:130]).convert("L").save(folder / "b" / "gray.png")
    (folder / "b" / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def depth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16-bit ramps in millimetres with a hole of zeros."""
    folder = tmp_path_factory.mktemp("depth")
    for i in range(2):
        ramp = np.add.outer(np.arange(32) * 50, np.arange(48) * 20) + 500 + 700 * i
        ramp[4:16, 8:24] = 0
        Image.fromarray(ramp.astype(np.uint16)).save(folder / f"{i}.png")
    return folder


def test_metrics_agree_with_their_definitions(photo: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    noisy = np.clip(photo.astype(int) + rng.integers(-9, 10, photo.shape), 0, 255).astype(np.uint8)
    error = noisy.astype(float) - photo
    assert mean_errors(photo, noisy) == pytest.approx((np.abs(error).mean(), (error**2).mean()))
    assert psnr(photo, noisy) == pytest.approx(20 * math.log10(255 / np.sqrt((error**2).mean())))
    same = structural_similarity(
        photo, noisy, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(photo, noisy) == pytest.approx(same, abs=1e-6)
    deep, deep_noisy = photo.astype(np.uint16) * 257, noisy.astype(np.uint16) * 257
    assert psnr(deep, deep_noisy, peak=65535) == pytest.approx(psnr(photo, noisy))
    assert ssim(deep, deep_noisy, peak=65535) == pytest.approx(ssim(photo, noisy))
    assert ms_ssim(deep, deep_noisy, peak=65535) == pytest.approx(ms_ssim(photo, noisy), abs=1e-5)
    gray = ms_ssim(photo[:, :, 0], noisy[:, :, 0])
    assert gray is not None and 0.8 < gray < 1
    assert psnr(photo, photo) == math.inf
    assert ssim(photo[:10], noisy[:10]) is None and ms_ssim(photo[:160], noisy[:160]) is None


def test_invalid_samples_count_nowhere(photo: np.ndarray) -> None:
    valid = np.ones(photo.shape[:2], bool)
    valid[:, 100:] = False
    other = photo.copy()
    other[valid] ^= 4
    half = (photo[:, :100], other[:, :100])
    other[~valid] = 255 - other[~valid]
    assert mean_errors(photo, other, valid) == mean_errors(*half)
    assert psnr(photo, other, valid=valid) == psnr(*half)
    with pytest.raises(InputError, match="no valid samples"):
        mean_errors(photo, other, np.zeros_like(valid))


def test_a_release_is_measured_by_its_files(images: Path, tmp_path: Path) -> None:
    done = run("photo", images, "--out", tmp_path / "report", "-q", 60, "-q", 20)
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert [(r["image"], r["quality"]) for r in report["results"]] == [
        (name, quality) for name in ("a/flower.png", "b/gray.png") for quality in (20, 60)
    ]
    assert list(report["skipped"]) == ["b/broken.png"]
    codec = Codec("photo")
    for result in report["results"]:
        pixels = np.asarray(Image.open(images / result["image"]))
        data = codec.encode(pixels, quality=result["quality"])
        back = codec.decode(data)
        assert result["bytes"] == len(data) and result["bits"] == 8 * len(data)
        assert result["bpp"] == 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
        assert result["psnr"] == pytest.approx(psnr(pixels, back))
        assert result["mae"] == pytest.approx(np.abs(pixels.astype(float) - back).mean())
        assert (result["ms_ssim"] is None) == (min(pixels.shape[:2]) < 161)
    for row in report["summary"]:
        own = [r for r in report["results"] if r["quality"] == row["quality"]]
        assert row["bytes"] == sum(r["bytes"] for r in own)
        assert row["psnr"] == pytest.approx(np.mean([r["psnr"] for r in own]))
        assert row["rmse"] == pytest.approx(np.sqrt(np.mean([r["rmse"] ** 2 for r in own])))
        assert f"{row['psnr']:.2f}" in done.output and str(row["bytes"]) in done.output
    names = {"evaluation.json", "rd.png", "psnr.png", "sheet-q20.png", "sheet-q60.png"}
    assert {path.name for path in (tmp_path / "report").iterdir()} == names
    for name in names - {"evaluation.json"}:
        with Image.open(tmp_path / "report" / name) as drawn:
            assert min(drawn.size) > 200 and len(drawn.convert("L").getcolors() or ()) > 10


def test_a_bottleneck_model_file_is_measured_both_ways(images: Path, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    data = {"validation": 0.0, "test": 0.0}
    export(bottleneck(tmp_path / "run", data=data), images, weights, description="")
    found = evaluate(weights, images, qualities=[20, 80])
    assert [r.quality for r in found.results[:3]] == [None, 20, 80]
    config = DataConfig(height=32, width=48)
    codec = Codec(weights)
    for result in found.results:
        x, _ = prepare(load(images / result.image, config), config)
        pixels = to_samples(x, config)
        if result.quality is None:
            assert (result.bytes, result.bpp) == (None, None)
            continue
        coded = codec.encode(pixels, quality=result.quality)
        assert result.bytes == len(coded) and result.bpp == 8 * len(coded) / (32 * 48)
        assert result.psnr == psnr(pixels, codec.decode(coded))


def test_a_run_is_measured_by_reconstruction(images: Path, tmp_path: Path) -> None:
    model = bottleneck(tmp_path / "run", data={"bits": 8, "resize": "crop"})
    names = tmp_path / "test_files.txt"
    names.write_text("a/flower.png\n")
    found = evaluate(model, images, qualities=[50], test_files=names)
    (result,) = found.results
    assert (result.image, result.quality, result.bytes) == ("a/flower.png", None, None)
    assert (result.width, result.height) == (48, 32)
    config = DataConfig(height=32, width=48, resize="crop")
    x, _ = prepare(load(images / "a" / "flower.png", config), config)
    back = to_samples(found.subjects["run"].model.reconstruct(x[None])[0], config)
    assert result.psnr == psnr(to_samples(x, config), back)


def test_depth_is_measured_in_its_units_without_holes(depth: Path, tmp_path: Path) -> None:
    model = bottleneck(tmp_path / "run", data=DEPTH, channels=1, bits=16)
    assert run(model, depth, "--out", tmp_path / "report").exit_code == 0
    report = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    found = evaluate(model, depth)
    for number, result in enumerate(report["results"]):
        pixels = np.asarray(Image.open(depth / f"{number}.png")).astype(float)
        x = torch.from_numpy(pixels / 10000 - 0.5).float()[None, None]
        back = found.subjects["run"].model.reconstruct(x)[0, 0].numpy() * 10000.0 + 5000
        error = (back.clip(0, 10000).round() - pixels)[pixels > 0]
        assert result["valid"] == np.mean(pixels > 0)
        assert result["mae"] == pytest.approx(np.abs(error).mean(), abs=0.01)
        assert result["rmse"] == pytest.approx(np.sqrt((error**2).mean()), abs=0.01)
        assert result["psnr"] == pytest.approx(20 * math.log10(10000 / result["rmse"]))
    assert not (tmp_path / "report" / "rd.png").exists()
    assert (tmp_path / "report" / "sheet-reconstruction.png").exists()


def test_the_depth_model_is_measured_in_millimetres(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(64) * 40, np.arange(80) * 15) + 1000
    ramp[10:20, 30:50] = 0
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "ramp.png")
    subject = Subject("depth")
    original = subject.read(tmp_path / "ramp.png")
    assert original.peak == 5000 and original.valid.sum() == (ramp > 0).sum()
    by_network = judge(original, *subject.run(original, None), "", "", None)
    by_file = judge(original, *subject.run(original, 90), "", "", 90)
    assert max(by_network.mae, by_file.mae) < 100
    far = np.full((32, 32), 9000, np.uint16)
    x, _ = ModelImages(subject.model).prepare(far)
    back = ModelImages(subject.model).restore(subject.model.reconstruct(x)[0], 16, True)
    assert np.abs(back - 9000.0).mean() < 1000, "depths beyond the maximum are not cut to it"


def test_images_that_a_model_does_not_take_are_skipped_by_name(
    images: Path, depth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(images / "a" / "flower.png", tmp_path / "0.png")
    shutil.copy(depth / "1.png", tmp_path / "1.png")
    found = evaluate("depth", tmp_path, qualities=[10])
    assert list(found.paths) == ["1.png"] == [r.image for r in found.results]
    assert "0.png: model depth is for depth" in found.skipped["0.png"]

    def refuse(*_: object) -> Any:
        raise InputError("too odd")

    monkeypatch.setattr(Subject, "run", refuse)
    with pytest.raises(InputError, match=r"1\.png: too odd"):
        evaluate("depth", tmp_path, test_files=_list(tmp_path / "list.txt", "1.png"))


def _list(path: Path, *names: str) -> Path:
    path.write_text("\n".join(names))
    return path


def test_models_with_skips_write_no_files(images: Path, tmp_path: Path) -> None:
    found = evaluate(bottleneck(tmp_path / "run", skips=True), images)
    assert {result.bytes for result in found.results} == {None}


def test_two_models_side_by_side(images: Path, tmp_path: Path) -> None:
    one = bottleneck(tmp_path / "run")
    found = evaluate(one, images, against=bottleneck(tmp_path / "more", seed=2))
    assert [r.model for r in found.results] == ["run", "more"] * 2
    (pair,) = comparison(found)["settings"]  # type: ignore[index]
    first, second = found.of("run", None), found.of("more", None)
    gain = np.mean([b.psnr - a.psnr for a, b in zip(first, second, strict=True)])
    assert pair["psnr_gain"] == pytest.approx(gain) and gain != 0
    assert pair["better"] + pair["worse"] == pair["images"] == 2
    out = tmp_path / "report"
    done = run(one, images, "--against", one, "--out", out, "--limit", 1)
    assert "run (1)" in done.output and "run (2)" in done.output
    (same,) = json.loads((out / "evaluation.json").read_text())["comparison"]["settings"]
    assert (same["better"], same["worse"], same["psnr_gain"]) == (0, 0, 0)


def made_up(psnrs: dict[str, list[float]], rates: list[float | None]) -> Evaluation:
    """An evaluation of which only PSNR and rates are known; a quality for every rate."""
    qualities = tuple(None if rate is None else 10.0 * (i + 1) for i, rate in enumerate(rates))
    found = Evaluation(Path("x"), dict.fromkeys(psnrs), dict.fromkeys(psnrs, qualities))  # type: ignore[arg-type]
    for label, values in psnrs.items():
        for i, value in enumerate(values):
            for j, (quality, rate) in enumerate(zip(qualities, rates, strict=True)):
                found.results.append(
                    Measured(
                        f"{i:02}", label, quality, 8, 8, 1.0, value + j, 1, None, 1, 1, 8, 8, rate
                    )
                )
    return found


def test_sheets_show_the_worst_the_median_and_the_best() -> None:
    found = made_up({"m": [float(v) for v in range(40)][::-1]}, [1.0])
    chosen = choose(found)
    assert list(chosen) == ["39", "38", "37", "36", "21", "20", "19", "18", "03", "02", "01", "00"]
    assert list(chosen.values()) == ["worst"] * 4 + ["median"] * 4 + ["best"] * 4
    few = choose(made_up({"m": [3.0, 1.0, 2.0]}, [1.0]))
    assert few == {"01": "worst", "02": "2 of 3", "00": "best"}
    found.settings = {"m": (None, 10.0, 20.0), "n": (10.0, 30.0)}
    assert settings(found) == [(None, 30.0), (10.0, 10.0), (20.0, 30.0)]


def test_exact_images_are_counted_apart_and_json_stays_finite() -> None:
    found = made_up({"m": [math.inf, 30.0, 32.0]}, [1.0])
    (row,) = summary(found)
    assert (row["exact"], row["psnr"], row["psnr_median"]) == (1, 31, 31)
    found.subjects = {}
    assert numbers(found)["results"][0]["psnr"] is None
    json.dumps(numbers(found), allow_nan=False)


def test_bd_rate_of_one_model_against_the_other() -> None:
    found = made_up({"a": [30.0], "b": [30.0]}, [0.5, 1.0, 2.0, 4.0])
    halved = [dataclasses.replace(r, bpp=r.bpp / 2) if r.model == "b" else r for r in found.results]  # type: ignore[operator]
    found.results = halved
    (rate,) = comparison(found)["bd_rates"]  # type: ignore[index]
    assert (rate["codec"], rate["anchor"], rate["metric"]) == ("b", "a", "psnr")
    assert rate["percent"] == pytest.approx(-50)


def test_a_point_of_a_curve_has_rate_and_quality_of_the_same_images() -> None:
    """Those that came back exactly, or are too small for a metric, are in neither."""
    found = made_up({"m": [math.inf, 30.0, 32.0]}, [1.0])
    found.results[0] = dataclasses.replace(found.results[0], bpp=9.0, ms_ssim=0.99)
    (row,) = summary(found)
    assert row["bpp"] == pytest.approx(11 / 3)  # of all files
    assert points(found, "m", "psnr") == [(1.0, 31.0, 10.0)]
    assert points(found, "m", "ms_ssim") == [(9.0, pytest.approx(20), 10.0)]
    found.results = found.results[:1]
    assert points(found, "m", "psnr") == []


def test_pictures_of_others_stay(images: Path, tmp_path: Path) -> None:
    model, out = bottleneck(tmp_path / "run"), tmp_path / "out"
    out.mkdir()
    for name in ("psnr.png", "sheet-of-my-own.png"):
        (out / name).write_bytes(b"mine")
        with pytest.raises(OutputError, match=f"{name}: is not of an evaluation"):
            run(model, images, "--out", out)
        (out / name).rename(out / f"not-{name}")
    (out / "sheet-of-my-own.png").write_bytes(b"mine")
    run(model, images, "--out", out, "--force")
    assert (out / "sheet-of-my-own.png").read_bytes() == b"mine"
    assert (out / "psnr.png").stat().st_size > 1000


def test_errors_of_8_and_16_bits_have_no_mean_in_common(
    photo: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gray = photo[:40, :40, 1]
    Image.fromarray(gray).save(tmp_path / "a.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "b.png")
    found = evaluate("photo", tmp_path, qualities=[50])
    (row,) = summary(found)
    assert (row["sample_bits"], row["mae"], row["rmse"]) == (None, None, None)
    assert row["psnr"] > 20 and "8 and of 16 bits" in caplog.text
    found.results = found.results[1:]
    (row,) = summary(found)
    assert row["sample_bits"] == 16 and row["mae"] == found.results[0].mae


def test_a_dropped_point_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    found = made_up({"a": [30.0], "b": [30.0]}, [1.0, 2.0, 0.5, 4.0])
    comparison(found)
    dropped = [message for message in caplog.messages if "dropped" in message]
    assert len(dropped) == len(set(dropped)) > 0


def test_what_cannot_be_evaluated(images: Path, tmp_path: Path) -> None:
    model = bottleneck(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list").write_text("a/flower.png\n../x.png\n")
    (tmp_path / "missing").write_text("a/nothing.png\n")
    (tmp_path / "none").write_text("\n")
    for options, message in (
        ({"data": tmp_path / "empty"}, "no images"),
        ({"data": images / "b", "test_files": tmp_path / "none"}, "lists no images"),
        ({"test_files": tmp_path / "list"}, "lies outside"),
        ({"test_files": tmp_path / "missing"}, "nothing.png: is listed"),
        ({"qualities": [101]}, "1..100"),
        ({"qualities": []}, "no quality"),
        ({"limit": 0}, "limit of 0"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(model, **{"data": images, **options})  # type: ignore[arg-type]
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"no")
    with pytest.raises(InputError, match=r"none of 1 images can be used: .*x\.png"):
        evaluate(model, tmp_path / "bad")
    with pytest.raises(UnknownModelError):
        evaluate("nothing", images)


def test_a_report_is_not_replaced_unasked(images: Path, tmp_path: Path) -> None:
    model, out = bottleneck(tmp_path / "run"), tmp_path / "report"
    out.mkdir()
    for name in ("evaluation.json", "sheet-q3.png", "mine.txt"):
        (out / name).write_text("old")
    with pytest.raises(OutputError, match="--force"):
        run(model, images, "--out", out)
    assert (out / "evaluation.json").read_text() == "old"
    assert run(model, images, "--out", out, "--force").exit_code == 0
    names = {"evaluation.json", "psnr.png", "sheet-reconstruction.png", "mine.txt"}
    assert {path.name for path in out.iterdir()} == names
    with pytest.raises(OutputError, match="not a folder"):
        run(model, images, "--out", out / "mine.txt", "--force")
    with pytest.raises(OutputError, match=r"mine\.txt: is not a folder"):
        run(model, images, "--out", out / "mine.txt" / "below")


def test_numbers_survive_figures_that_cannot_be_drawn(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = bottleneck(tmp_path / "run"), tmp_path / "report"
    monkeypatch.setattr(evaluate_report, "histogram", lambda found: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(model, images, "--out", out, "--limit", 1)
    assert json.loads((out / "evaluation.json").read_text())["images"] == 1


def test_a_missing_matplotlib_is_noticed_before_any_work(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match="drawing needs"):
        run("no such model", images, "--out", tmp_path / "report")
    with pytest.raises(MissingDependencyError, match="drawing needs"):
        check_outputs(tmp_path / "x.png")
