"""The command line, end to end, through real processes and files."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Run, psnr
from PIL import Image

import aecodec
from aecodec.cli import main, options
from aecodec.cli.main import COMMANDS, exit_code
from aecodec.container import parse, serialise


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray, run: Run) -> Path:
    """A folder with photo.png and the photo.aec made of it. Not to be changed."""
    folder = tmp_path_factory.mktemp("coded")
    Image.fromarray(photo).save(folder / "photo.png")
    done = run("compress", folder / "photo.png")
    assert done.returncode == 0, done.stderr
    return folder


def only(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def failed(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Check a failure: its code, one line, no traceback."""
    assert done.returncode == code, (done.returncode, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("aecodec: error: ")
    assert done.stdout == ""
    for word in words:
        assert word in lines[0], lines[0]


# ---- what works ----


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


# ---- what does not ----


def test_existing_files_are_kept_unless_forced(photo_file, run):
    target = photo_file.with_suffix(".aec")
    target.write_text("precious")
    failed(run("compress", photo_file), 6, "photo.aec", "exists")
    assert target.read_text() == "precious"
    assert run("compress", photo_file, "-f").returncode == 0
    aecodec.verify(target)
    failed(run("decompress", target), 6, "photo.png", "exists")
    assert run("decompress", target, "--force").returncode == 0
    assert only(photo_file.parent) == {"photo.png", "photo.aec"}


def test_the_input_is_never_overwritten(coded, photo_file, tmp_path, run):
    before = photo_file.read_bytes()
    failed(run("compress", photo_file, photo_file, "-f"), 6, "input itself")
    (tmp_path / "link.aec").symlink_to(photo_file)
    failed(run("compress", photo_file, tmp_path / "link.aec", "-f"), 6, "input itself")
    assert photo_file.read_bytes() == before
    odd = tmp_path / "coded.png"
    odd.write_bytes((coded / "photo.aec").read_bytes())
    failed(run("decompress", odd, "-f"), 6, "input itself")


def test_inputs_that_are_no_images(tmp_path, run):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    Image.new("F", (8, 8), float("nan")).save(tmp_path / "nowhere.tif")
    before = only(tmp_path)
    for name, cause in {
        "missing.png": "no such file",
        "folder.png": "is a directory",
        "text.png": "not an image",
        "empty.png": "empty",
        "nowhere.tif": "not finite",
    }.items():
        failed(run("compress", tmp_path / name), 3, name, cause)
    failed(run("compress", "."), 3, "is a directory")
    assert only(tmp_path) == before


def test_a_truncated_image_leaves_nothing_behind(photo_file, run):
    photo_file.write_bytes(photo_file.read_bytes()[:5000])
    failed(run("compress", photo_file), 3, "photo.png", "truncated")
    assert only(photo_file.parent) == {"photo.png"}


def test_files_that_are_not_aec(coded, tmp_path, run):
    (tmp_path / "empty.aec").touch()
    (tmp_path / "text.aec").write_text("no codes here")
    data = (coded / "photo.aec").read_bytes()
    (tmp_path / "short.aec").write_bytes(data[:20])
    (tmp_path / "cut.aec").write_bytes(data[: len(data) // 2])
    (tmp_path / "flip.aec").write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    before = only(tmp_path)
    for name in sorted(before):
        failed(run("decompress", tmp_path / name), 4, name)
        failed(run("verify", tmp_path / name), 4, name)
    for name in ("empty.aec", "text.aec", "short.aec"):
        failed(run("info", tmp_path / name), 4, name)
    assert json.loads(run("info", "--json", tmp_path / "cut.aec").stdout)["complete"] is False
    failed(run("decompress", coded / "photo.png", tmp_path / "x.png"), 4, "photo.png")
    failed(run("decompress", tmp_path / "missing.aec"), 3, "missing.aec", "no such file")
    failed(run("info", tmp_path), 3, "is a directory")
    assert only(tmp_path) == before


def test_outputs_that_cannot_be(coded, tmp_path, run):
    source = coded / "photo.aec"
    failed(run("decompress", source, tmp_path / "a.xyz"), 6, "a.xyz", "unknown extension")
    failed(run("decompress", source, tmp_path / "a"), 6, "no extension")
    failed(run("decompress", source, tmp_path / "no" / "a.png"), 6, "no folder")
    failed(run("compress", coded / "photo.png", tmp_path / "a.jpg"), 6, "a.jpg", ".aec")
    failed(run("compress", coded / "photo.png", tmp_path), 6, "folder")
    assert only(tmp_path) == set()


def test_models_that_cannot_be_used(coded, photo_file, tmp_path, run):
    failed(run("compress", photo_file, "--model", "no-such-model"), 5, "no-such-model")
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 100)
    failed(run("compress", photo_file, "--model", tmp_path / "bad.safetensors"), 5, "bad")
    file = parse((coded / "photo.aec").read_bytes())
    other = dataclasses.replace(file.header, model_id=bytes.fromhex("0123456789abcdef"))
    other_path = tmp_path / "other.aec"
    other_path.write_bytes(serialise(dataclasses.replace(file, header=other)))
    failed(run("decompress", other_path), 5, "other.aec", "0123456789abcdef")
    assert only(tmp_path) == {"photo.png", "bad.safetensors", "other.aec"}


def test_sizes_over_the_limits(coded, tmp_path, photo_file, run):
    few = ("--max-pixels", 1000)
    failed(run("compress", photo_file, *few), 3, "photo.png", "384 x 256")
    for verb, *output in (("decompress", tmp_path / "a.png"), ("info",), ("verify",)):
        failed(run(verb, coded / "photo.aec", *output, *few), 3, "photo.aec", "384 x 256")


@pytest.mark.parametrize(
    "args",
    [
        ["compress"],
        ["compress", "a.png", "-q", "0"],
        ["compress", "a.png", "-q", "101"],
        ["compress", "a.png", "-q", "good"],
        ["compress", "a.png", "--threads", "0"],
        ["compress", "a.png", "b.aec", "c.aec"],
        ["info", "--no-such-option", "a.aec"],
        ["verify"],
        ["no-such-command"],
    ],
)
def test_wrong_usage(args, run):
    done = run(*args)
    assert done.returncode == 2
    assert "Usage: aecodec" in done.stderr
    assert "Traceback" not in done.stderr


def test_quality_that_is_no_number(photo, photo_file, run):
    assert run("compress", photo_file, "-q", "nan").returncode in (2, 3)
    for quality in (0.99, 100.01, float("nan"), float("inf")):
        with pytest.raises(aecodec.InputError):
            aecodec.encode(photo, quality=quality)


@pytest.mark.parametrize(
    "error, code",
    [
        (aecodec.AecError, 1),
        (aecodec.TrainingError, 1),
        (aecodec.MissingDependencyError, 1),
        (aecodec.InputError, 3),
        (aecodec.UnsupportedImageError, 3),
        (aecodec.LimitError, 3),
        (aecodec.FormatError, 4),
        (aecodec.SignatureError, 4),
        (aecodec.VersionError, 4),
        (aecodec.TruncatedError, 4),
        (aecodec.ChecksumError, 4),
        (aecodec.ModelError, 5),
        (aecodec.UnknownModelError, 5),
        (aecodec.ModelMismatchError, 5),
        (aecodec.WeightsError, 5),
        (aecodec.OutputError, 6),
    ],
)
def test_exit_codes(error, code):
    assert exit_code(error("x")) == code


def test_interrupted(tmp_path):
    os.mkfifo(tmp_path / "slow.png")  # opening it waits for a writer that never comes
    process = subprocess.Popen(
        [sys.executable, "-m", "aecodec", "compress", str(tmp_path / "slow.png")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not waits_for_a_writer(process.pid):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.strip() == "aecodec: interrupted"
    assert only(tmp_path) == {"slow.png"}


def waits_for_a_writer(pid: int) -> bool:
    """Whether a process sleeps in opening a pipe (Linux tells; elsewhere time passes)."""
    try:
        return Path(f"/proc/{pid}/wchan").read_text() in {"wait_for_partner", "fifo_open"}
    except OSError:
        return False


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


def test_errors_name_files_as_they_are_called(tmp_path, capsys):
    name = tmp_path / " two  spaces\tand\na line.png"
    assert main.run(["compress", str(name)]) == main.EXIT_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "/ two  spaces\tand a line.png: " in line
