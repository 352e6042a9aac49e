"""What the command line says and leaves behind when something cannot be done."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, only
from PIL import Image

import aecodec
from aecodec.cli import main
from aecodec.cli.main import exit_code
from aecodec.container import parse, serialise


def failed(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Check a failure: its code, one line, no traceback."""
    assert done.returncode == code, (done.returncode, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("aecodec: error: ")
    assert done.stdout == ""
    for word in words:
        assert word in lines[0], lines[0]


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


def test_errors_name_files_as_they_are_called(tmp_path, capsys):
    name = tmp_path / " two  spaces\tand\na line.png"
    assert main.run(["compress", str(name)]) == main.EXIT_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "/ two  spaces\tand a line.png: " in line
