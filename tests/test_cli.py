"""The command line, end to end, through real processes and files."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import only, psnr
from PIL import Image

import aecodec
from aecodec.cli import options
from aecodec.cli.main import COMMANDS


def test_a_photograph_goes_there_and_back(coded, tmp_path, photo, run):
    done = run("decompress", coded / "photo.aec", tmp_path / "back.png")
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1
    with Image.open(tmp_path / "back.png") as image:
        assert image.mode == "RGB"
        back = np.asarray(image)
    assert back.shape == photo.shape
    assert psnr(back, photo) > 30
    assert (coded / "photo.aec").stat().st_size < 0.25 * (coded / "photo.png").stat().st_size
    assert only(tmp_path) == {"back.png"}


def test_odd_sides_and_gray(tmp_path, cat, run):
    gray = np.asarray(Image.fromarray(cat).convert("L"))
    for name, image in {"colour": cat, "gray": gray}.items():
        path = tmp_path / f"{name}.png"
        Image.fromarray(image).save(path)
        assert run("compress", path, "--quiet").stderr == ""
        assert run("decompress", path.with_suffix(".aec"), tmp_path / f"{name}.ppm").returncode == 0
        with Image.open(tmp_path / f"{name}.ppm") as back:
            assert np.asarray(back).shape == image.shape
            assert psnr(np.asarray(back), image) > 28


def test_less_quality_is_fewer_bytes_and_more_error(photo_file, photo, run):
    sizes, errors = [], []
    for quality in ("10", "50.5", "95"):
        done = run("compress", photo_file, "-q", quality, "--force")
        assert done.returncode == 0, done.stderr
        data = photo_file.with_suffix(".aec").read_bytes()
        sizes.append(len(data))
        errors.append(psnr(aecodec.decode(data), photo))
        assert aecodec.info(data).quality == pytest.approx(float(quality), abs=0.1)
    assert sizes == sorted(sizes)
    assert errors == sorted(errors)
    assert sizes[-1] > 3 * sizes[0]


def test_what_is_said_on_success(photo_file, run):
    done = run("compress", photo_file)
    assert done.stdout == ""
    assert "photo.aec: " in done.stderr
    for word in (" kB -> ", " bpp, ", ":1, ", " s\n"):
        assert word in done.stderr
    assert run("compress", photo_file, "-f", "--quiet").stderr == ""


def test_info_as_text_and_json(coded, run):
    path = coded / "photo.aec"
    done = run("info", path, "--json")
    found = json.loads(done.stdout)
    size = path.stat().st_size
    assert found["path"] == str(path)
    assert (found["width"], found["height"], found["mode"]) == (384, 256, "RGB")
    assert found["bit_depth"] == 8
    assert found["bytes"] == size
    assert found["bpp"] == pytest.approx(8 * size / (384 * 256))
    assert found["quality"] == pytest.approx(75, abs=0.1)
    assert found["chunks"] == 1
    assert found["complete"] is True
    assert len(bytes.fromhex(found["model_id"])) == 8
    text = run("info", path).stdout
    assert "384 x 256" in text
    assert found["model_id"] in text


@pytest.mark.parametrize("name", ["second.avif", "second.gif", "second.JPG", "second.png"])
def test_an_image_is_not_overwritten_by_compress(photo_file, tmp_path, run, name):
    (tmp_path / name).write_text("an image")
    done = run("compress", photo_file, tmp_path / name, "--force")
    assert done.returncode == 6
    assert "an .aec file is not called that" in done.stderr
    assert (tmp_path / name).read_text() == "an image"


def test_a_name_is_no_file(coded):
    with pytest.raises(aecodec.InputError, match=r"bytes of a file, not str; aecodec\.decompress"):
        aecodec.decode(str(coded / "photo.aec"))


def test_info_and_verify_read_standard_input_and_say_in_json_what_fails(coded, tmp_path, run):
    data = (coded / "photo.aec").read_bytes()
    for command in ("info", "verify"):
        done = subprocess.run(
            [sys.executable, "-m", "aecodec", command, "--json", "-", tmp_path / "none.aec"],
            input=data,
            capture_output=True,
            check=False,
        )
        whole, missing = map(json.loads, done.stdout.splitlines())
        assert (done.returncode, whole["path"]) == (3, "-")
        assert whole.get("error") is None
        assert missing["error_type"] == "InputError"
        assert "none.aec" in missing["error"]


def test_info_is_the_same_of_a_path_bytes_and_an_open_file(coded):
    path = coded / "photo.aec"
    with open(path, "rb") as fp:
        fp.seek(0)
        found = aecodec.info(fp)
        assert fp.tell() == 0
        fp.seek(3)
        with pytest.raises(aecodec.FormatError, match="photo"):
            aecodec.info(fp)
        assert fp.tell() == 3  # left where it stood
    assert found == aecodec.info(path) == aecodec.info(str(path)) == aecodec.info(path.read_bytes())


def test_models_and_what_made_a_file(coded, run):
    rows = json.loads(run("models", "--json").stdout)
    photo = next(row for row in rows if row["name"] == "photo")
    assert photo["id"] == aecodec.info(coded / "photo.aec").model_id
    assert photo["id"] in run("models").stdout


def test_verify_looks_at_every_file(coded, tmp_path, run):
    good = coded / "photo.aec"
    done = run("verify", good)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{good}: ok\n", "")
    bad = tmp_path / "bad.aec"
    data = bytearray(good.read_bytes())
    data[len(data) // 2] ^= 4
    bad.write_bytes(data)
    done = run("verify", bad, good)
    assert done.returncode == 4
    assert done.stdout == f"{good}: ok\n"
    assert done.stderr.startswith(f"aecodec: error: {bad}: ")


def test_the_same_bytes_every_time(coded, photo, run, tmp_path):
    again = tmp_path / "again.aec"
    assert run("compress", coded / "photo.png", again).returncode == 0
    assert again.read_bytes() == (coded / "photo.aec").read_bytes()
    assert aecodec.encode(photo) == again.read_bytes()
    assert aecodec.encode(Image.fromarray(photo), quality=75) == again.read_bytes()


def test_the_functions_do_what_the_commands_do(tmp_path, photo_file, photo):
    made = aecodec.compress(photo_file, tmp_path / "a.aec", quality=60)
    assert made == aecodec.info(tmp_path / "a.aec")
    aecodec.verify(tmp_path / "a.aec")
    aecodec.decompress(tmp_path / "a.aec", tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as image:
        from_file = np.asarray(image)
    np.testing.assert_array_equal(from_file, aecodec.decode((tmp_path / "a.aec").read_bytes()))
    with pytest.raises(aecodec.OutputError):
        aecodec.compress(photo_file, tmp_path / "a.aec")
    with pytest.raises(aecodec.OutputError):
        aecodec.decompress(tmp_path / "a.aec", tmp_path / "a.webp")


def test_every_command_has_help_with_an_example(run):
    listing = run("--help")
    assert "Exit codes:" in listing.stdout
    for name in COMMANDS:
        assert f"\n  {name} " in listing.stdout
        usage, text = run(name, "--help").stdout.split("\n", 1)
        assert usage.startswith(f"Usage: aecodec {name}")
        assert f"aecodec {name} " in text, f"{name}: no example"
    assert run("--version").stdout.strip() == f"aecodec, version {aecodec.__version__}"


@pytest.mark.parametrize(
    "size, text",
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (32_149, "32.1 kB"),
        (999_400, "999 kB"),
        (999_600, "1 MB"),
        (1_234_567, "1.23 MB"),
        (5 * 10**9, "5 GB"),
    ],
)
def test_sizes_for_people(size, text):
    assert options.human(size) == text
