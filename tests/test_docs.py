"""The manual is true: its examples run, and it names all there is.

In README.md and docs/*.md, blocks marked `python` and `sh` are run, page by page, in a folder with
a photograph in `photo.png` and `image`, one with alpha in `logo.png`, a depth map in `depth.png`,
a folder `photos` and a
damaged `broken.aec`. Blocks without a mark are not.
"""

from __future__ import annotations

import doctest
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from depth_scenes import scene
from PIL import Image
from sybil import Sybil
from sybil.example import Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

import aecodec
from aecodec.cli import main

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def run_commands(example: Example) -> None:
    """Run the lines of a block; `aecodec` alone within this process, which is faster."""
    for line in example.parsed.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] == "aecodec" and not set("|<>;&") & set(line.partition(" # ")[0]):
            code = main.run(words[1:])
        else:
            code = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"]).returncode
        expected = main.EXIT_PARTLY if "--best-effort" in words else 0
        assert code == expected, f"{line!r} ended with {code}"


SYBIL = Sybil([PythonCodeBlockParser(), CodeBlockParser("sh", run_commands)])


@pytest.fixture
def folder(
    tmp_path: Path,
    china: np.ndarray,
    photo: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    coded_in_chunks: bytes,
) -> Path:
    """The current folder of an example."""
    Image.fromarray(china).save(tmp_path / "photo.png")
    Image.fromarray(np.dstack([photo, photo[:, :, 0]])).save(tmp_path / "logo.png")
    Image.fromarray(scene(96, 128)).save(tmp_path / "depth.png")
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo[:64, :64]).save(tmp_path / "photos" / "flower.png")
    middle = len(coded_in_chunks) * 3 // 4
    broken = bytearray(coded_in_chunks)
    broken[middle] ^= 1
    (tmp_path / "broken.aec").write_bytes(broken)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in (
        ("aecodec", f'exec "{sys.executable}" -m aecodec "$@"'),
        ("display", "exec cat >/dev/null"),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(programs), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def china() -> np.ndarray:
    """A photograph, (352, 528, 3) uint8."""
    from sklearn.datasets import load_sample_image

    return np.ascontiguousarray(load_sample_image("china.jpg")[:352, :528])


@pytest.fixture(scope="module")
def coded_in_chunks() -> bytes:
    """A file of two chunks."""
    return aecodec.encode(np.full((16, 1040, 3), 90, np.uint8))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_examples_of_the_manual(page: Path, folder: Path, china: np.ndarray) -> None:
    document = SYBIL.parse(page)
    document.namespace["image"] = china
    for example in document.examples():
        example.evaluate()


def test_the_examples_are_found():
    found = {page.name: len(list(SYBIL.parse(page).examples())) for page in PAGES}
    assert found["README.md"] >= 2 and found["quickstart.md"] >= 5 and found["api.md"] >= 1


DOCTESTED = [
    source
    for source in sorted((ROOT / "aecodec").rglob("*.py"))
    if ">>>" in source.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("source", DOCTESTED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples_in_docstrings(source, folder, china):
    name = ".".join(source.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    results = doctest.testmod(
        importlib.import_module(name),
        extraglobs={"image": china, "Image": Image},
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE,
    )
    assert results.attempted > 0 and results.failed == 0


def test_the_package_shows_how_to_begin():
    assert ROOT / "aecodec" / "__init__.py" in DOCTESTED


def test_every_public_name_is_in_the_manual():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: (\S+)", text, re.MULTILINE)
    for name in aecodec.__all__:
        value = getattr(aecodec, name)
        where = getattr(value, "__module__", "")
        assert name == "__version__" or {where, f"{where}.{name}"} & set(shown), name


def test_pages_link_to_pages_that_are_there():
    links = [
        (page, link)
        for page in PAGES
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    ]
    assert len(links) > 30
    for page, link in links:
        assert (page.parent / link).exists(), f"{page.name}: {link}"
