"""The command among other programs: closed streams, full ones, and being told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMAND = f"{sys.executable} -m aecodec"


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("compress photo.png - >&-", 6, "standard output: "),
        ("compress - x.aec <&-", 3, "standard input: the file is empty"),
        ("compress photo.png x.aec 2>&-", 0, ""),
        ("models >&-", 6, "standard output: "),
        ("models >/dev/full", 6, "standard output: No space left on device"),
        ("compress 'photo[1].png' x.aec", 2, "photo[1].png: no such file"),
        ("compress file://$PWD/photo[1].png x.aec", 2, "photo[1].png: no such file"),
        ("compress 'file:///nowhere/photo.png' x.aec", 3, "photo.png: no such file"),
        ("compress memory://photo.png x.aec", 3, "memory://photo.png: no such file or directory"),
        ("compress file://$PWD/p[1].png x.aec", 0, "x.aec: "),
        ("compress '' x.aec", 2, "the name is empty"),
        ("compress <(cat photo.png) x.aec", 0, "x.aec: "),
    ],
)
def test_streams_and_names(
    line: str, code: int, said: str, photo_file: Path, tmp_path: Path
) -> None:
    for name in ("photo.png", "p[1].png"):
        (tmp_path / name).write_bytes(photo_file.read_bytes())
    done = shell(f"{COMMAND} {line}", tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "x.aec").exists() == (code == 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_when_told_to_stop(number: signal.Signals, tmp_path: Path) -> None:
    """While a picture that comes by standard input lies in a temporary folder."""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "aecodec", "compress", "-", str(tmp_path / "x.aec")]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup would ignore it
    ) as process:
        while not any(tmp_path.iterdir()):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert process.stderr.read().endswith("aecodec: interrupted\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line",
    [
        "compare photo.png -o photo.png --codecs jpeg -f",
        "explore grid photo.png --qualities 20 -o photo.png -f",
        "export last.safetensors --data . --out last.safetensors -f",
    ],
)
def test_no_command_replaces_its_input(line: str, photo_file: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(photo_file.read_bytes())
    (tmp_path / "last.safetensors").write_bytes(b"a checkpoint")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = shell(f"{COMMAND} {line}", tmp_path)
    assert done.returncode == 6, done.stderr
    assert "is the input itself" in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("explore anomaly photo . -o a.png --mad nan", 2, "nan is not a number"),
        ("explore sample photo -o a.png --seed -1", 2, "--seed"),
        ("compare photo.png -o a.html --codecs ,", 3, "names no codec"),
        ("bench . -o file --codecs jpeg", 6, "file: is not a folder"),
    ],
)
def test_options_that_make_no_sense(
    line: str, code: int, said: str, photo_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "photo.png").write_bytes(photo_file.read_bytes())
    (tmp_path / "file").touch()
    done = shell(f"{COMMAND} {line}", tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
