"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest
from conftest import only

from aecodec import output
from aecodec.errors import OutputError


def test_nothing_is_left_after_a_failure(tmp_path):
    path = tmp_path / "a.bin"
    for failure in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(failure), output.atomic_output(path) as fp:
            fp.write(b"half")
            raise failure
        assert only(tmp_path) == set()


def test_a_failing_disk_is_an_output_error_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.bin: no space left"):
        output.write_bytes(path, b"new", overwrite=True)
    assert path.read_bytes() == b"old"
    assert only(tmp_path) == {"a.bin"}


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "a.bin"
    with pytest.raises(OutputError, match="exists"), output.atomic_output(path) as fp:
        fp.write(b"ours")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert only(tmp_path) == {"a.bin"}


def test_without_hard_links_it_still_works(tmp_path, monkeypatch):
    def no_links(source: object, target: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "a.bin"
    output.write_bytes(path, b"one")
    with pytest.raises(OutputError, match="exists"), output.atomic_output(tmp_path / "b") as fp:
        fp.write(b"ours")
        (tmp_path / "b").write_bytes(b"theirs")
    assert path.read_bytes() == b"one"
    assert only(tmp_path) == {"a.bin", "b"}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permission_bits_are_those_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        output.write_bytes(tmp_path / "a.bin", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o666 & ~umask


def test_links_are_followed_and_special_files_refused(tmp_path):
    real, link = tmp_path / "real.bin", tmp_path / "link.bin"
    real.write_bytes(b"old")
    link.symlink_to(real)
    output.write_bytes(link, b"new", overwrite=True)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="not an ordinary file"):
        output.write_bytes(tmp_path / "pipe", b"x", overwrite=True)
    with pytest.raises(OutputError, match="folder"):
        output.write_bytes(tmp_path, b"x", overwrite=True)
    with pytest.raises(OutputError, match="no folder"):
        output.write_bytes(tmp_path / "no" / "a.bin", b"x")
