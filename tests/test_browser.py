"""The page of `aecodec compare` in a real Chromium; run by `make test-browser`, not by default.

Needs the packages of `aecodec[browser]` and a Chromium: the environment variable CHROMIUM names
it, else it is looked for under its usual names.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from aecodec.cli.compare import command

pytestmark = pytest.mark.browser

WIDTH, HEIGHT = 240, 192
TAGS = 40  # pixels at the bottom, where the labels are
DIVIDER = 26  # pixels on each side of it that the handle may cover


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    Image.fromarray(photo[:HEIGHT, :WIDTH]).save(folder / "flower.png")
    arguments = [folder / "flower.png", "-o", folder / "report.html", "--codecs", "jpeg,webp"]
    options = [str(argument) for argument in [*arguments, "-q", 20, "-q", 60]]
    CliRunner().invoke(command, options, catch_exceptions=False)
    return folder / "report.html"


@pytest.fixture(scope="module")
def versions(report: Path) -> dict[tuple[float, str], np.ndarray]:
    """Pixels of every version, by aecodec's quality and the codec."""
    html = report.read_text(encoding="utf-8")
    found = re.search(r'id="comparisons">(.*?)</script>', html)
    assert found is not None
    (picture,) = json.loads(found[1])["pictures"]
    pixels = {}
    for comparison in picture["comparisons"]:
        for one in [{"codec": "original", "uri": picture["uri"]}, *comparison["coded"]]:
            data = base64.b64decode(one["uri"].split(",")[1])
            pixels[comparison["quality"], one["codec"]] = np.asarray(Image.open(io.BytesIO(data)))
    return pixels


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert found, "no Chromium found; install one, or name it in CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Page:
    """The report, opened; fails on any error in its script and any request."""

    def __init__(self, browser: Any, report: Path, **options: Any) -> None:
        size = {"width": 300, "height": 900}  # so that the picture fits at 1×
        self.context = browser.new_context(viewport=size, **options)
        self.page = self.context.new_page()
        self.troubles: list[str] = []
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("request", self.requested)
        self.page.goto(report.as_uri())
        self.stage = self.page.locator(".stage")
        self.divider = self.page.get_by_role("slider")
        self.shown("left", "Original")
        self.shown("right", "aecodec")

    def requested(self, request: Any) -> None:
        if not request.url.startswith(("data:", "file:")):
            self.troubles.append(request.url)

    def shown(self, side: str, label: str) -> None:
        """Wait until a side shows a version."""
        name = re.compile(f": {re.escape(label)}$")
        self.page.locator(f".side.{side}").get_by_alt_text(name).wait_for()

    def screen(self) -> np.ndarray:
        """What the stage looks like, (H, W, 3)."""
        data = self.stage.screenshot(animations="disabled")
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def choose(self, label: str) -> Any:
        return self.page.get_by_role("combobox", name=label)

    def split(self) -> int:
        return int(self.divider.get_attribute("aria-valuenow"))

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A place on the stage, as shares of its sides, on the page."""
        box = self.stage.bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*self.at(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(*end), steps=4)
        self.page.mouse.up()


@pytest.fixture
def page(chromium: Any, report: Path) -> Iterator[Page]:
    page = Page(chromium, report)
    yield page
    page.context.close()
    assert page.troubles == []


def sides(screen: np.ndarray, split: float) -> tuple[np.ndarray, np.ndarray]:
    """What of the stage surely shows the left and the right picture."""
    x = round(split * screen.shape[1])
    visible = screen[:-TAGS]
    return visible[:, : max(x - DIVIDER, 0)], visible[:, x + DIVIDER :]


def assert_shows(screen: np.ndarray, split: float, left: np.ndarray, right: np.ndarray) -> None:
    """Both sides show exactly these pixels, given as large as the stage."""
    for seen, wanted in zip(sides(screen, split), (left, right), strict=True):
        assert seen.size > 0
        part = wanted[: seen.shape[0]]
        part = part[:, : seen.shape[1]] if wanted is left else part[:, -seen.shape[1] :]
        assert np.array_equal(seen, part)


def test_each_side_shows_its_pixels_exactly(page, versions):
    screen = page.screen()
    assert screen.shape == (HEIGHT, WIDTH, 3)
    assert_shows(screen, 0.5, versions[20, "original"], versions[20, "aecodec"])


def test_the_divider_is_dragged_with_the_mouse(page, versions):
    page.drag((0.5, 0.4), (0.25, 0.6))
    assert page.split() == 25
    assert_shows(page.screen(), 0.25, versions[20, "original"], versions[20, "aecodec"])
    page.drag((0.25, 0.5), (1.4, 0.5))  # beyond the edge
    assert page.split() == 100


def test_the_divider_is_dragged_with_a_finger(chromium, report):
    page = Page(chromium, report, has_touch=True)
    client = page.context.new_cdp_session(page.page)

    def touch(kind: str, *place: float) -> None:
        points = [dict(zip("xy", page.at(*place), strict=True))] if place else []
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0.5, 0.5)
    for x in (0.55, 0.65, 0.75):
        touch("touchMove", x, 0.5)
    touch("touchEnd")
    assert page.split() == 75
    page.context.close()
    assert page.troubles == []


def test_the_divider_moves_by_keys(page):
    page.divider.focus()
    for key, split in (
        ("ArrowRight", 52),
        ("ArrowLeft", 50),
        ("PageUp", 60),
        ("Home", 0),
        ("ArrowLeft", 0),
        ("End", 100),
    ):
        page.page.keyboard.press(key)
        assert page.split() == split, key
    assert page.divider.get_attribute("aria-valuetext") == "100 % Original, 0 % aecodec"


def test_versions_are_chosen_for_each_side(page, versions):
    page.choose("Left").select_option("JPEG")
    page.choose("Right").select_option("WebP (m6)")
    page.shown("left", "JPEG")
    page.shown("right", "WebP (m6)")
    assert_shows(page.screen(), 0.5, versions[20, "jpeg"], versions[20, "webp"])
    page.choose("aecodec quality").select_option("60")
    page.page.get_by_role("button", name="Swap").click()
    page.shown("left", "WebP (m6)")
    page.shown("right", "JPEG")
    assert_shows(page.screen(), 0.5, versions[60, "webp"], versions[60, "jpeg"])


def test_zoom_shows_whole_pixels_and_moves_both_sides(page, versions):
    page.page.get_by_role("button", name="8×").click()

    def window(pixels: np.ndarray, x: int, y: int) -> np.ndarray:
        large = pixels.repeat(8, axis=0).repeat(8, axis=1)
        return large[y : y + HEIGHT, x : x + WIDTH]

    x, y = 7 * WIDTH // 2, 7 * HEIGHT // 2  # what was in the middle stays there
    both = versions[20, "original"], versions[20, "aecodec"]
    assert_shows(page.screen(), 0.5, *(window(one, x, y) for one in both))
    page.drag((0.8, 0.3), (0.6, 0.5))
    x, y = x + round(0.2 * WIDTH), y - round(0.2 * HEIGHT)
    assert page.split() == 50
    assert_shows(page.screen(), 0.5, *(window(one, x, y) for one in both))
    page.stage.focus()
    page.page.keyboard.press("ArrowRight")
    assert_shows(page.screen(), 0.5, *(window(one, x + 40, y) for one in both))
    page.page.keyboard.press("0")
    assert_shows(page.screen(), 0.5, *both)


def test_zoom_with_the_wheel_keeps_what_is_under_the_pointer(page):
    page.page.mouse.move(*page.at(0.25, 0.25))
    page.page.keyboard.down("Control")
    for _ in range(12):
        page.page.mouse.wheel(0, -100)
    page.page.keyboard.up("Control")
    page.page.wait_for_function(
        "document.querySelector('.side.left img').style.transform.includes('scale(8)')"
    )
    transforms = page.page.locator(".stage img").evaluate_all(
        "all => all.map(i => i.style.transform)"
    )
    assert len(set(transforms)) == 1
    x, y = (int(v) for v in re.findall(r"(-?\d+)px", transforms[0]))
    assert abs(x + 7 * WIDTH / 4) <= 12 and abs(y + 7 * HEIGHT / 4) <= 12


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(chromium, report, scheme):
    page = Page(chromium, report, color_scheme=scheme)

    def brightness() -> float:
        colour = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    assert (brightness() > 128) == (scheme == "light")
    page.page.get_by_role("button", name="Light" if scheme == "dark" else "Dark").click()
    assert (brightness() > 128) == (scheme == "dark")
    page.context.close()
