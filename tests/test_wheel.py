"""The wheel: what is in it, and that it works without the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from conftest import ROOT, WEIGHTS

import aecodec
from aecodec.pixels import read_image


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*command, "--target", str(folder), str(wheel)], check=True)
    return folder


def test_what_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        weights = archive.read("aecodec/weights/photo.safetensors")
        info = f"aecodec-{aecodec.__version__}.dist-info"
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert weights == WEIGHTS.read_bytes()
    assert {"aecodec/__init__.py", "aecodec/py.typed", "aecodec/cli/main.py"} <= names
    assert all(name.startswith(("aecodec/", info)) for name in names), sorted(names)
    assert not any("__pycache__" in name for name in names)
    assert metadata["Version"] == aecodec.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert f"{info}/licenses/LICENSE" in names
    assert "aecodec = aecodec.__main__:main" in entry_points


def test_every_module_and_data_file_of_the_checkout_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = [*(ROOT / "aecodec").rglob("*.py"), *(ROOT / "aecodec").glob("*/data/*")]
    wanted = {path.relative_to(ROOT).as_posix() for path in files}
    assert {"aecodec/cli/main.py", "aecodec/measure/data/compare.html"} <= wanted <= names


def test_it_works_elsewhere(installed, tmp_path, photo_file):
    env = {**os.environ, "PYTHONPATH": str(installed)}

    def python(*args: object) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, args)], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = Path(python("-c", "import aecodec; print(aecodec.__file__)").strip())
    assert where == installed / "aecodec" / "__init__.py"
    (model,) = [
        one
        for one in json.loads(python("-m", "aecodec", "models", "--json"))
        if one["name"] == "photo"
    ]
    assert Path(model["path"]) == installed / "aecodec" / "weights" / "photo.safetensors"
    python("-m", "aecodec", "compress", photo_file.name, "a.aec")
    python("-m", "aecodec", "decompress", "a.aec", "a.png")
    assert python("-m", "aecodec", "verify", "a.aec") == "a.aec: ok\n"
    assert (tmp_path / "a.png").stat().st_size > (tmp_path / "a.aec").stat().st_size
    assert (tmp_path / "a.aec").read_bytes() == aecodec.encode(read_image(photo_file))
