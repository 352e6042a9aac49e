"""`aecodec compare`: what is in the page, and that its numbers and pictures are true."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aecodec.cli.compare import command
from aecodec.codec import Codec
from aecodec.errors import InputError, OutputError
from aecodec.measure.compare import Picture, same_size
from aecodec.measure.compare_page import page
from aecodec.measure.metrics import ms_ssim, psnr

QUALITIES = (15.0, 50.0)


def run(*arguments: object) -> None:
    """Run the command as the main program does, its errors coming through."""
    CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray, cat: np.ndarray) -> Path:
    """A photograph in a file with a hostile name, a sideways one with EXIF, and their report."""
    folder = tmp_path_factory.mktemp("compare")
    Image.fromarray(photo[:192, :208]).save(folder / "<b>&amp;.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(cat[:80, :112]).save(folder / "sideways.png", exif=exif)
    images = [folder / "<b>&amp;.png", folder / "sideways.png"]
    options = ["--codecs", "jpeg,webp", *(f"-q{quality:g}" for quality in QUALITIES)]
    run(*images, "--out", folder / "report.html", *options)
    return folder


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pictures(html: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="comparisons">(.*?)</script>', html)
    assert found is not None
    pictures: list[dict[str, Any]] = json.loads(found[1])["pictures"]
    return pictures


def pixels(uri: str) -> np.ndarray:
    kind, data = uri.removeprefix("data:image/").split(";base64,")
    with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
        assert (image.format or "").lower() == kind
        assert image.mode == "RGB"
        return np.asarray(image)


def test_it_needs_nothing_from_outside(html):
    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            names = {name for name, _ in attributes}
            assert not names & {"src", "href", "srcset", "action", "data"}, tag
            assert tag not in ("link", "iframe", "object", "embed", "base")

    Links().feed(html)
    assert re.findall(r"https?:|url\(|@import|\bfetch\(|XMLHttpRequest|WebSocket", html) == []
    assert "default-src 'none'; img-src data:;" in html


def test_originals_are_in_it_as_they_are_and_upright(pictures, photo, cat):
    flower, turned = pictures
    assert flower["name"] == "<b>&amp;.png"
    assert np.array_equal(pixels(flower["uri"]), photo[:192, :208])
    assert (turned["width"], turned["height"]) == (80, 112)
    assert np.array_equal(pixels(turned["uri"]), np.rot90(cat[:80, :112], -1))


def test_every_codec_is_there_with_what_it_decodes_to(pictures):
    codec = Codec()
    for picture in pictures:
        original = pixels(picture["uri"])
        assert [one["quality"] for one in picture["comparisons"]] == list(QUALITIES)
        for comparison in picture["comparisons"]:
            own, *others = comparison["coded"]
            data = codec.encode(original, quality=comparison["quality"])
            assert own["bytes"] == len(data)
            assert np.array_equal(pixels(own["uri"]), codec.decode(data))
            assert [one["codec"] for one in others] == ["jpeg", "webp"]
            for one in comparison["coded"]:
                decoded = pixels(one["uri"])
                assert one["bpp"] == 8 * one["bytes"] / (original.shape[0] * original.shape[1])
                assert one["psnr"] == psnr(original, decoded)
                assert one["ms_ssim"] == ms_ssim(original, decoded)


def test_peers_are_the_largest_files_that_fit(pictures):
    kinds = {"jpeg": ("JPEG", {"optimize": True}), "webp": ("WEBP", {"method": 6})}
    for picture in pictures:
        image = Image.fromarray(pixels(picture["uri"]))
        for comparison in picture["comparisons"]:
            target = comparison["coded"][0]["bytes"]
            for one in comparison["coded"][1:]:
                kind, options = kinds[one["codec"]]
                files = {}
                for quality in (one["setting"], one["setting"] + 1):
                    file = io.BytesIO()
                    image.save(file, kind, quality=quality, **options)
                    files[quality] = file.getvalue()
                assert one["bytes"] == len(files[one["setting"]])
                with Image.open(io.BytesIO(files[one["setting"]])) as again:
                    assert np.array_equal(pixels(one["uri"]), np.asarray(again.convert("RGB")))
                if one["fits"]:
                    assert one["bytes"] <= target < len(files[one["setting"] + 1])
                else:
                    assert one["setting"] == 0 and one["bytes"] > target


def test_numbers_are_legible_without_a_script(html, pictures):
    assert '<h2 id="picture-0">&lt;b&gt;&amp;amp;.png</h2>' in html
    text = html.replace("<strong>", "").replace("</strong>", "").replace("\u202f", "")
    for picture in pictures:
        for comparison in picture["comparisons"]:
            for one in comparison["coded"]:
                ssim = "–" if one["ms_ssim"] is None else f"{one['ms_ssim']:.4f}"
                star = "" if one["fits"] else "*"
                cells = [f"{one['setting']:g}", f"{one['bytes']}{star}", f"{one['bpp']:.3f}"]
                cells += [f"{one['psnr']:.2f}", ssim]
                assert "".join(f"<td>{cell}</td>" for cell in cells) in text


def test_a_name_cannot_end_the_script(photo):
    name = "</script><script>alert(1)</script>"
    text = page([Picture(name, 1, photo[:16, :16], [])], codecs=["</li><script>"])
    assert text.count("<script") == 2 and text.count("</script>") == 2
    assert "&lt;/script&gt;" in text


def test_a_picture_too_long_for_webp_is_a_png():
    long = np.arange(3 * 20000, dtype=np.uint32).astype(np.uint8).reshape(1, 20000, 3)
    text = page([Picture("long", 1, long, [])], codecs=[])
    (uri,) = re.findall(r"data:image/png;base64,[A-Za-z0-9+/=]+", text)
    assert np.array_equal(pixels(uri), long)


class Stairs:
    """A codec whose file of quality q has `sizes[q]` bytes."""

    name = label = "stairs"
    settings = (0.0,)

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes

    def describe(self) -> str:
        return "made up"

    def encode(self, image: np.ndarray, setting: float) -> bytes:
        return bytes(self.sizes[int(setting)])

    def decode(self, data: bytes) -> np.ndarray:
        raise NotImplementedError


@given(st.lists(st.integers(0, 500), min_size=101, max_size=101), st.integers(0, 600))
def test_same_size_finds_the_largest_file_that_fits(sizes, target):
    sizes.sort()
    setting, data = same_size(Stairs(sizes), np.zeros((1, 1, 3), np.uint8), target)
    assert len(data) == sizes[int(setting)]
    assert len(data) == max((size for size in sizes if size <= target), default=sizes[0])


def test_an_existing_page_is_not_replaced_unasked(folder, html):
    report = folder / "report.html"
    with pytest.raises(OutputError, match="exists"):
        run(folder / "sideways.png", "--out", report)
    assert report.read_text(encoding="utf-8") == html


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sideways.png", "--codecs", "gif"], "gif"),
        (["sideways.png", "--codecs", "aecodec"], "always there"),
        (["missing.png"], "missing.png"),
        (["report.html"], "report.html"),
    ],
)
def test_what_cannot_be_compared(folder, tmp_path, arguments, message):
    image, *options = arguments
    with pytest.raises(InputError, match=message):
        run(folder / image, "--out", tmp_path / "page.html", *options)
    assert not any(tmp_path.iterdir())


def test_an_image_of_the_wrong_kind_is_named(folder, tmp_path):
    with pytest.raises(InputError, match=r"sideways\.png: model depth is for depth"):
        run(folder / "sideways.png", "--out", tmp_path / "x.html", "--model", "depth")


def test_alpha_is_dropped_with_a_note(tmp_path, caplog):
    Image.new("RGBA", (20, 20), (1, 2, 3, 4)).save(tmp_path / "a.png")
    run(tmp_path / "a.png", "--out", tmp_path / "x.html", "--codecs", "jpeg")
    assert "a.png: with alpha, measured without" in caplog.text
