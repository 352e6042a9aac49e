"""What others read about the format and the command: file(1), desktops, man, shells."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from aecodec.cli.main import COMMANDS
from aecodec.container import SIGNATURE
from aecodec.plugins.pillow import MIME

PACKAGING = ROOT / "packaging"


def from_escapes(text: str) -> bytes:
    """What `\\x89AEC\\r` stands for."""
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def test_magic_of_file():
    lines = (PACKAGING / "aecodec.magic").read_text().splitlines()
    offset, kind, value, *_ = next(line for line in lines if line.startswith("0")).split("\t")
    assert (offset, kind) == ("0", "string")
    assert from_escapes(value) == SIGNATURE
    assert f"!:mime\t{MIME}" in lines


def test_file_itself_recognises_images(tmp_path, photo):
    program = shutil.which("file")
    if program is None:
        return  # the other tests read the same bytes
    import aecodec

    (tmp_path / "image").write_bytes(aecodec.encode(photo[:64, :64]))
    deep = photo[:64, :64, :2].astype(np.uint16)
    (tmp_path / "deep").write_bytes(aecodec.encode(deep))
    (tmp_path / "depth").write_bytes(aecodec.encode(deep[:, :, 0], model="depth"))
    (tmp_path / "other").write_bytes(SIGNATURE.replace(b"\r", b"") + b" no image")
    magic = PACKAGING / "aecodec.magic"
    command = [
        program,
        "--brief",
        "-m",
        magic,
        *(tmp_path / name for name in ("image", "deep", "depth", "other")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    image, gray, depth, other = done.stdout.splitlines()
    assert image == "aecodec image data, version 1, RGB, 8-bit"
    assert gray == "aecodec image data, version 1, grayscale, alpha, 16-bit"
    assert depth == "aecodec image data, version 1, grayscale, depth map, 16-bit"
    assert "aecodec" not in other


def test_shared_mime_info():
    space = "{http://www.freedesktop.org/standards/shared-mime-info}"
    root = ElementTree.parse(PACKAGING / "aecodec.xml").getroot()
    assert root.tag == f"{space}mime-info"
    (kind,) = root
    assert kind.get("type") == MIME
    (match,) = kind.iter(f"{space}match")
    assert (match.get("type"), match.get("offset")) == ("string", "0")
    assert from_escapes(match.get("value") or "") == SIGNATURE
    (glob,) = kind.iter(f"{space}glob")
    assert glob.get("pattern") == "*.aec"


def test_manual_page_says_what_the_help_says(run):
    command = [sys.executable, str(PACKAGING / "man.py")]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert page.startswith(".TH AECODEC 1 ")
    plain = re.sub(r"\\f[BIR]|\\&", "", page).replace("\\-", "-").replace("\\e", "\\")
    for section in ("NAME", "SYNOPSIS", "COMMANDS", "EXIT STATUS"):
        assert f"\n.SH {section}\n" in page
    for name in COMMANDS:
        assert f"\n.SS {name}\n" in plain
    for option in re.findall(r"^ +(?:-\w, )?(--[\w-]+)", run("compress", "--help").stdout, re.M):
        assert option in plain
    assert not re.search(r"^\.(?!TH |SH |SS |PP$|TP$|RS 2$|RE$|nf$|fi$)", page, re.M)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run, shell):
    done = run("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_AECODEC_COMPLETE={shell}_complete" in done.stdout


def test_bash_completes(run, tmp_path):
    program = tmp_path / "aecodec"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aecodec "$@"\n')
    program.chmod(0o755)
    (tmp_path / "script").write_text(run("completion", "bash").stdout)

    def completed(*words: str) -> set[str]:
        code = (
            f"source {tmp_path}/script; complete -p aecodec >/dev/null || exit 1; "
            f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
            '_aecodec_completion aecodec 2>/dev/null; echo "${COMPREPLY[@]}"'
        )
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(["bash", "-c", code], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return set(done.stdout.split())

    assert completed("aecodec", "com") == {name for name in COMMANDS if name.startswith("com")}
    assert completed("aecodec", "compress", "--skip") == {"--skip-existing"}
    assert completed("aecodec", "decompress", "--format", "pn") == {"png"}
    assert completed("aecodec", "verify", "--model", "pho") == {"photo"}


def test_everything_is_explained():
    text = (PACKAGING / "README.md").read_text()
    for path in PACKAGING.iterdir():
        if path.suffix in {".magic", ".xml", ".py"}:
            assert f"`{Path(path).name}`" in text
