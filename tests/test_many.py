"""The command line on many files, on pipes, and when it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from test_processes import alive, until

import aecodec
from aecodec import pixels
from aecodec.cli.main import run as main

ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> Path:
    """A folder with two photographs, one below the other, and a broken one. Not to be changed."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "sub").mkdir()
    Image.fromarray(photo[:96, :128]).save(folder / "one.png")
    Image.fromarray(photo[100:196, 100:228]).save(folder / "sub" / "two.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def test_a_folder_there_and_back(photos, tmp_path, run):
    out, back = tmp_path / "out", tmp_path / "back"
    done = run(
        "compress", photos, "--recursive", "--out", out, "--jobs", 2, "--threads", 1, "--json"
    )
    assert done.returncode == 8, done.stderr
    found = {Path(row["path"]).name: row for row in map(json.loads, done.stdout.splitlines())}
    assert set(found) == {"one.png", "two.png", "broken.png"}
    for name in ("one", "sub/two"):
        made = (out / name).with_suffix(".aec")
        image = pixels.read_image((photos / name).with_suffix(".png"))
        assert made.read_bytes() == aecodec.encode(image, threads=1)
        row = found[f"{Path(name).name}.png"]
        assert (row["status"], row["error"]) == ("done", None)
        assert (row["output"], row["bytes"]) == (str(made), made.stat().st_size)
        assert row["bpp"] == pytest.approx(8 * row["bytes"] / (96 * 128))
    broken = found["broken.png"]
    assert (broken["status"], broken["bytes"]) == ("failed", None)
    assert (broken["error_type"], "not an image" in broken["error"]) == ("InputError", True)
    error, summary = done.stderr.splitlines()
    assert error == f"aecodec: error: {broken['error']}"
    assert summary.startswith("2 of 3 files: ")
    assert summary.endswith("; 1 failed")

    again = run("compress", photos, "-r", "-o", out, "--skip-existing", "-v")
    assert again.returncode == 8
    assert "2 skipped" in again.stderr
    assert "one.aec: exists already, skipped" in again.stderr

    done = run("decompress", out / "one.aec", "--out", tmp_path / "other")
    assert done.stderr.startswith("1 of 1 files: ")
    assert ":1" not in done.stderr  # a ratio is that of coding
    done = run("decompress", f"{out}/**/*.aec", "--out", back, "--format", "ppm", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for name in ("one", "sub/two"):
        decoded = aecodec.decode((out / name).with_suffix(".aec").read_bytes())
        written = pixels.read_image((back / name).with_suffix(".ppm")).astype(int)
        assert np.abs(written - decoded).max() <= 1  # another number of threads
    assert not [path for path in tmp_path.rglob(".*")]


def test_names_that_clash_stop_before_any_work(photos, tmp_path, run):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.png").write_bytes((photos / "one.png").read_bytes())
    done = run("compress", tmp_path / "a/one.png", tmp_path / "b/one.png", "-o", tmp_path / "out")
    assert done.returncode == 3
    assert "would both become" in done.stderr
    assert not (tmp_path / "out").exists()


def test_standard_input_and_output(photos, tmp_path):
    def pipe(*args: object, data: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "aecodec", *map(str, args)],
            input=data,
            capture_output=True,
            cwd=tmp_path,
            env=ENV,
            timeout=300,
        )

    image = photos / "one.png"
    coded = pipe("compress", "-", "--threads", 1, "--quiet", data=image.read_bytes())
    assert (coded.returncode, coded.stderr) == (0, b"")
    assert coded.stdout == aecodec.encode(pixels.read_image(image), threads=1)
    shown = pipe("decompress", "-", "-", "--format", "ppm", data=coded.stdout)
    assert shown.returncode == 0
    assert shown.stdout.startswith(b"P6\n128 96\n255\n")
    assert b"128 x 96 RGB" in shown.stderr
    bad = pipe("decompress", "-", "x.png", data=b"no codes")
    assert bad.returncode == 4
    assert bad.stderr.startswith(b"aecodec: error: standard input: ")
    assert bad.stdout == b""
    assert list(tmp_path.iterdir()) == []


def test_json_and_times_of_a_single_file(photos, tmp_path, capsys):
    source, made = str(photos / "one.png"), tmp_path / "one.aec"
    os.utime(source, ns=(10**18, 11 * 10**17))
    assert main(["compress", source, str(made), "--json", "--keep-times", "-v"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["path"], row["output"], row["error"]) == (source, str(made), None)
    assert row["bytes"] == made.stat().st_size
    assert made.stat().st_mtime_ns == 11 * 10**17
    assert main(["compress", source, str(made), "--json"]) == 6
    said = capsys.readouterr()
    assert json.loads(said.out)["error_type"] == "OutputError"
    assert "exists" in said.err
    assert main(["compress", source, str(made), "--skip-existing"]) == 0
    assert "skipped" in capsys.readouterr().err
    assert made.stat().st_mtime_ns == 11 * 10**17


@pytest.mark.parametrize(
    "args, code",
    [
        (["a.png", "b.png", "c.png"], 2),
        (["*.png"], 2),
        (["a.png", "--recursive"], 2),
        (["a.png", "--dask", "tcp://127.0.0.1:1"], 2),
        (["a.png", "--quiet", "-v"], 2),
        (["a.png", "--force", "--skip-existing"], 2),
        (["a.png", "-", "--json"], 2),
        (["a.png", "memory://bucket/a.aec", "--keep-times"], 2),
        (["a.png", "--jobs", "0"], 2),
        (["-", "a.png", "--out", "x"], 3),
        (["*.png", "--out", "x"], 3),
    ],
)
def test_wrong_usage(args, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["compress", *args]) == code
    assert "rror: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_formats_for_outputs_with_a_name(capsys):
    assert main(["decompress", "a.aec", "b.png", "--format", "webp"]) == 2
    assert "--format" in capsys.readouterr().err
    assert main(["decompress", "a.aec", "--format", "xyz"]) == 6


def test_info_and_verify_of_several_files(tmp_path, photo, capsys):
    good, bad = tmp_path / "good.aec", tmp_path / "bad.aec"
    good.write_bytes(aecodec.encode(photo[:64, :64]))
    bad.write_bytes(b"no codes")
    assert main(["verify", str(bad), str(good), "--json"]) == 4
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["ok"] for row in rows] == [False, True]
    assert (rows[0]["error_type"], rows[1]["error"]) == ("SignatureError", None)
    assert main(["info", str(good), str(bad), str(good), "--json"]) == 4
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["path"] for row in rows] == [str(good), str(bad), str(good)]
    assert [row.get("error_type") for row in rows] == [None, "SignatureError", None]


def children(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(text) for text in path.read_text().split()]
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_interrupted(photos, tmp_path):
    """Ctrl-C reaches the command and its workers at once, as in a terminal."""
    os.mkfifo(tmp_path / "slow.png")  # opening it waits for a writer that never comes
    files = [tmp_path / "slow.png", photos / "one.png", "--out", tmp_path / "out"]
    parent = subprocess.Popen(
        [sys.executable, "-m", "aecodec", "compress", *files, "--jobs", "2", "-v"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stderr is not None
    while "one.aec: " not in parent.stderr.readline():
        assert parent.poll() is None
    workers = children(parent.pid)
    os.killpg(parent.pid, signal.SIGINT)
    _, said = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert said.endswith("aecodec: interrupted\n")
    assert "1 of 2 files" in said
    assert "Traceback" not in said
    until(lambda: not any(alive(pid) for pid in workers))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one.aec"]
