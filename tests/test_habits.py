"""Small things that users of other command lines and of Pillow take for granted."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from PIL import Image

import aecodec
from aecodec.__main__ import main
from aecodec.batch import compress_many
from aecodec.container import Limits
from aecodec.errors import InputError, OutputError

aecodec.register_pillow()
AECODEC = [sys.executable, "-m", "aecodec"]


@pytest.fixture
def coded(photo: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "photo.aec"
    path.write_bytes(aecodec.encode(photo, 30))
    return path


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i8"])
def test_regions_of_numpy_integers(photo: np.ndarray, coded: Path, kind: str) -> None:
    """Boxes come as arrays, of unsigned numbers too, whose sums and differences overflow."""
    x, y, width, height = 200, 100, 100, 50
    found = aecodec.decode(coded.read_bytes(), region=tuple(np.array([x, y, width, height], kind)))
    expected = aecodec.decode(coded.read_bytes())[y : y + height, x : x + width]
    assert np.abs(found.astype(int) - expected).max() <= 1
    with pytest.raises(InputError, match="whole pixels"):
        aecodec.decode(coded.read_bytes(), region=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["quality", "target_size", "target_bpp", "target_psnr"])
@pytest.mark.parametrize("value", [10**400, 1e308])
def test_numbers_beyond_all_files(photo: np.ndarray, name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        aecodec.encode(photo, **{name: value})


def test_a_size_of_many_digits(photo_file: Path, run: Run) -> None:
    done = run("compress", photo_file, "--target-size", "9" * 400)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)


def test_limits_hold_for_the_whole_of_compress(
    photo_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More pixels than are accepted by default are no error once the limits allow them."""
    monkeypatch.setattr("aecodec.container.DEFAULT_LIMITS", Limits(max_pixels=100))
    monkeypatch.setattr("aecodec.fileinfo.Limits", lambda: Limits(max_pixels=100))
    limits = Limits(max_pixels=10**9)
    made = aecodec.compress(photo_file, tmp_path / "a.aec", limits=limits, quality=20)
    assert made.width * made.height > 100


@pytest.mark.parametrize("again", [copy.deepcopy, lambda image: pickle.loads(pickle.dumps(image))])
def test_copies_of_an_unread_image_are_images(coded: Path, again: object) -> None:
    with Image.open(coded) as image:
        other = again(image)  # type: ignore[operator]
    expected = Image.open(coded)
    expected.load()
    np.testing.assert_array_equal(np.asarray(other), np.asarray(expected))
    other.thumbnail((20, 20))
    assert max(other.size) == 20


def test_the_same_file_by_two_names_is_coded_once(
    photo_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo_file.parent)
    names = [photo_file.name, f"./{photo_file.name}"]
    outcomes = compress_many(names, tmp_path / "out", quality=20)
    assert [outcome.source for outcome in outcomes] == [photo_file.name]


def test_a_folder_that_is_not_there_is_no_file(photo_file: Path, tmp_path: Path, run: Run) -> None:
    done = run("compress", photo_file, f"{tmp_path}/new/")
    assert done.returncode == 6
    assert "there is no such folder" in done.stderr
    with pytest.raises(OutputError, match="no such folder"):
        aecodec.compress(photo_file, f"{tmp_path}/new/")
    assert not (tmp_path / "new").exists()


def test_json_tells_of_notes_and_of_early_failures(
    photo: np.ndarray, tmp_path: Path, run: Run
) -> None:
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "cmyk.jpg")
    done = run("compress", tmp_path / "cmyk.jpg", tmp_path / "a.aec", "--json", "--quiet")
    assert done.stderr == ""
    assert any("CMYK" in note for note in json.loads(done.stdout)["notes"])
    for source in (tmp_path, "nosuchkind://a/b.png"):
        done = run("compress", source, "--json")
        found = json.loads(done.stdout)
        assert (done.returncode, found["status"], found["output"]) == (3, "failed", None)
        assert found["error"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("command", ["info", "verify", "decompress", "rescue"])
def test_named_pipes_are_read_once(coded: Path, tmp_path: Path, run: Run, command: str) -> None:
    pipe, out = tmp_path / "pipe", tmp_path / "out.png"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(coded.read_bytes()))
    writer.start()
    words = {"decompress": [out], "rescue": [out, "--best-effort"]}
    verb = "decompress" if command == "rescue" else command
    done = run(verb, pipe, *words.get(command, []))
    writer.join()
    assert done.returncode == 0, done.stderr
    if out.exists():
        assert "0 B ->" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_standard_output_is_an_output_error(photo_file: Path) -> None:
    with open("/dev/full", "wb") as full:
        words = [*AECODEC, "compress", photo_file, "-"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False, text=True)
    assert done.returncode == 6
    assert "standard output: No space" in done.stderr


def test_names_that_are_no_text_are_printed(coded: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.aec"
    os.rename(coded, name)
    for command in ("info", "verify"):
        done = subprocess.run(
            [*map(os.fsencode, AECODEC), command.encode(), name],
            env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert name in done.stdout


def test_ctrl_c_before_anything_has_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Imports take a while, and nobody handles signals meanwhile."""

    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "aecodec.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "aecodec.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    assert capsys.readouterr().err == "aecodec: interrupted\n"
