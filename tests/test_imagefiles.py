"""Which image files are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from aecodec.errors import InputError
from aecodec.imagefiles import find_images


def test_images_are_found_in_order_without_hidden_ones(tmp_path: Path) -> None:
    (tmp_path / "sub" / ".git").mkdir(parents=True)
    names = ["b.png", "a.PNG", "._a.png", "notes.txt", "sub/c.jpg", "sub/.git/d.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"")

    def found(**options: bool) -> list[str]:
        return [p.relative_to(tmp_path).as_posix() for p in find_images(tmp_path, **options)]

    assert found() == ["a.PNG", "b.png", "sub/c.jpg"]
    assert found(below=False) == ["a.PNG", "b.png"]


def test_folders_without_images_are_errors(tmp_path: Path) -> None:
    for folder, message in ((tmp_path, "no images"), (tmp_path / "nowhere", "not a folder")):
        with pytest.raises(InputError, match=message):
            find_images(folder)
