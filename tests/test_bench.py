"""`aecodec bench`, for real, on crops of two photographs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from aecodec.cli.bench import command
from aecodec.errors import InputError, OutputError
from aecodec.measure.peers import Jpeg

ARGUMENTS = ["--codecs", "jpeg,webp", "--qualities", "5", "--published", "kodak"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import skimage.data

    folder = tmp_path_factory.mktemp("photographs")
    for name, image in (("chelsea", skimage.data.chelsea()), ("coffee", skimage.data.coffee())):
        Image.fromarray(image[80:272, 100:300]).save(folder / f"{name}.png")
    return folder


def run(*arguments: object) -> None:
    """Run the command as the main program does, its errors coming through."""
    CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def report(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reports") / "new" / "report"
    run(photographs, "--out", out, *ARGUMENTS)
    return out


@pytest.fixture(scope="module")
def data(report: Path) -> Any:
    return json.loads((report / "results.json").read_text(encoding="utf-8"))


def test_every_image_codec_and_quality_is_there(data: Any) -> None:
    assert data["format"] == "aecodec-bench"
    assert [image["name"] for image in data["images"]] == ["chelsea.png", "coffee.png"]
    keys = {(r["image"], r["codec"], r["setting"]) for r in data["results"]}
    assert len(keys) == len(data["results"]) == 2 * 2 * 5
    for entry in data["results"]:
        assert entry["bpp"] == 8 * entry["bytes"] / (200 * 192)
        assert 20 < entry["psnr"] < 55 and 0.5 < entry["ms_ssim"] < 1
        assert entry["encode_s"] > 0 and entry["decode_s"] > 0
    assert all(pair["encode"] > 0 for pair in data["speed_s_per_megapixel"].values())


def test_sizes_are_those_of_real_files(data: Any, photographs: Path) -> None:
    for entry in data["results"]:
        format_, options = {
            "jpeg": ("JPEG", {"optimize": True}),
            "webp": ("WEBP", {"method": 6}),
        }[entry["codec"]]
        file = io.BytesIO()
        with Image.open(photographs / entry["image"]) as image:
            image.save(file, format_, quality=int(entry["setting"]), **options)
        assert entry["bytes"] == len(file.getvalue())


def test_header_tells_machine_versions_and_command(data: Any) -> None:
    assert data["machine"]["cores"] >= 1 and data["machine"]["cpu"]
    assert data["versions"]["pillow"] and data["versions"]["torch"]
    assert data["command"].startswith("aecodec bench ")
    assert data["command"].endswith("--codecs jpeg,webp --qualities 5 --published kodak")
    assert data["date"].endswith("+00:00")


def test_webp_beats_jpeg_on_both_metrics(data: Any) -> None:
    rates = {(r["codec"], r["anchor"], r["metric"]): r for r in data["bd_rates"]}
    for metric in ("psnr", "ms_ssim_db"):
        rate = rates["webp", "jpeg", metric]
        assert -60 < rate["percent"] < -5
        assert rate["low"] < rate["high"]
    assert rates["VTM (VVC intra)", "jpeg", "psnr"]["percent"] is not None
    assert ("VTM (VVC intra)", "jpeg", "ms_ssim_db") not in rates


def test_csv_and_tables_agree_with_the_json(data: Any, report: Path) -> None:
    with (report / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["bytes"]) for row in rows] == [r["bytes"] for r in data["results"]]
    text = (report / "report.md").read_text(encoding="utf-8")
    webp = next(r for r in data["bd_rates"] if r["codec"] == "webp" and r["metric"] == "psnr")
    assert f"| WebP (m6) | {webp['percent']:+.1f} % |" in text
    assert "Seconds per megapixel" in text


def test_plots_are_pictures(report: Path) -> None:
    with Image.open(report / "rd.png") as image:
        image.load()
        assert image.width > 1200 and len(image.convert("RGB").getcolors(1 << 24) or []) > 50
    assert "<svg" in (report / "rd.svg").read_text(encoding="utf-8")[:1000]


def test_without_times_and_with_own_points(photographs: Path, tmp_path: Path) -> None:
    points = ["--points", "jpeg=30,60"]
    run(photographs, "-o", tmp_path, "--codecs", "jpeg", "--limit", 1, "--no-time", *points)
    data = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [(r["setting"], r["encode_s"]) for r in data["results"]] == [(30, None), (60, None)]
    assert data["repeats"] is None
    assert "Seconds" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_effort_is_that_of_aecodec(photographs: Path, tmp_path: Path) -> None:
    totals = []
    for effort in (0, 2):
        out = tmp_path / str(effort)
        points = ["--codecs", "aecodec", "--points", "aecodec=30,60", "--anchor", "aecodec"]
        run(photographs, "--out", out, *points, "--effort", effort, "--no-time")
        found = json.loads((out / "results.json").read_text(encoding="utf-8"))
        text = str(found["codecs"])
        assert ("effort 2" in text) == (effort == 2)
        totals.append([(r["bytes"], r["psnr"]) for r in found["results"]])
    assert totals[0] != totals[1]


def test_a_report_is_not_replaced_unasked(photographs: Path, report: Path) -> None:
    with pytest.raises(OutputError, match="--force"):
        run(photographs, "--out", report, *ARGUMENTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codecs", "jpeg2"], "jpeg2"),
        (["--codecs", ","], "names no codec"),
        (["--codecs", "jpeg", "--anchor", "webp"], "webp"),
        (["--codecs", "jpeg", "--points", "jpeg"], "NAME=Q"),
        (["--codecs", "jpeg", "--points", "webp=3"], "not measured"),
        (["--codecs", "jpeg", "--points", "jpeg=inf"], "jpeg=inf: inf: .* whole numbers from 1"),
        (["--codecs", "jpeg", "--points", "jpeg=-5,0,200"], "--points jpeg"),
        (["--codecs", "jpeg", "--points", "jpeg=10.2,10.4"], "whole numbers"),
        (["--codecs", "aecodec", "--points", "aecodec=101"], "--points .* of aecodec are numbers"),
        (["--codecs", "jpeg", "--published", "nonesuch"], "kodak"),
    ],
)
def test_senseless_options_are_refused(
    photographs: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(photographs, "--out", tmp_path / "r", *arguments)
    assert not (tmp_path / "r").exists()


def test_points_of_one_codec_add_up(photographs: Path, tmp_path: Path) -> None:
    points = ["--points", "jpeg=60,30", "--points", "jpeg=30,40"]
    run(photographs, "-o", tmp_path, "--codecs", "jpeg", "--limit", 1, "--no-time", *points)
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert found["codecs"][0]["settings"] == [30, 40, 60]


@pytest.mark.parametrize("bad", ["16 bits", "junk"])
def test_nothing_is_measured_before_all_headers_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    Image.new("RGB", (200, 200)).save(tmp_path / "a.png")
    if bad == "junk":
        (tmp_path / "z.png").write_bytes(b"junk")
    else:
        Image.new("I;16", (200, 200)).save(tmp_path / "z.png")
    measured: list[object] = []
    monkeypatch.setattr(Jpeg, "encode", lambda self, image, setting: measured.append(setting))
    with pytest.raises(InputError, match=r"z\.png"):
        run(tmp_path, "--out", tmp_path / "out", "--codecs", "jpeg")
    assert not measured


def test_the_report_does_not_go_among_the_images(photographs: Path) -> None:
    with pytest.raises(OutputError, match="has the images"):
        run(photographs, "--out", photographs / ".." / photographs.name, "--codecs", "jpeg")


def test_empty_names_are_refused(photographs: Path, tmp_path: Path) -> None:
    for arguments in ([str(photographs), "--out", ""], ["", "--out", str(tmp_path / "r")]):
        done = CliRunner().invoke(command, arguments)
        assert done.exit_code == 2 and "empty" in done.output


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        run(tmp_path, "--out", tmp_path / "report")


def test_it_is_a_click_command() -> None:
    assert isinstance(command, click.Command)
    assert CliRunner().invoke(command, ["--help"]).exit_code == 0
