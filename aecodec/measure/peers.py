"""The codecs that are measured, each behind the same small interface.

To add one, write a class with the attributes and methods of `Peer` (for anything
that Pillow can save, a few lines under `PillowPeer` are enough) and name it in
`PEERS`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from aecodec.errors import InputError, MissingDependencyError
from aecodec.measure.metrics import RGB

OWN = "aecodec"
"""What `--codecs` and reports call this codec."""


class Peer(Protocol):
    """A codec to measure."""

    @property
    def name(self) -> str:
        """What `--codecs` calls it."""

    @property
    def label(self) -> str:
        """What plots and tables call it."""

    @property
    def settings(self) -> Sequence[float]:
        """About eight qualities, rising, from about 0.05 to 3 bits per pixel."""

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest quality there is."""

    @property
    def whole(self) -> bool:
        """Whether qualities are whole numbers."""

    def describe(self) -> str:
        """Library, its version, and the options that are not the quality."""

    def encode(self, image: RGB, setting: float) -> bytes:
        """The complete file."""

    def decode(self, data: bytes) -> RGB:
        """The picture in the file."""


class PillowPeer:
    """A codec that Pillow can write at `quality=setting`."""

    name: ClassVar[str]
    label: ClassVar[str]
    settings: ClassVar[Sequence[float]]
    range: ClassVar[tuple[float, float]] = (0, 100)
    whole: ClassVar[bool] = True
    format: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def available(cls) -> bool:
        """Whether it can be used with what is installed."""
        from PIL import features

        return bool(features.check(cls.format.lower()))

    def library(self) -> str:
        """Name and version of the library that does the work."""
        from PIL import features

        name = self.format.lower()
        return f"lib{name} {features.version(name)}"

    def describe(self) -> str:
        """Library, its version, and the options that are not the quality."""
        options = [f"{key}={value}" for key, value in self.options.items()]
        return ", ".join([self.library(), *options])

    def encode(self, image: RGB, setting: float) -> bytes:
        """The complete file."""
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(image).save(file, self.format, quality=round(setting), **self.options)
        return file.getvalue()

    def decode(self, data: bytes) -> RGB:
        """The picture in the file."""
        from PIL import Image

        with Image.open(io.BytesIO(data), formats=[self.format]) as image:
            return np.asarray(image.convert("RGB"))


class Jpeg(PillowPeer):
    """Baseline JPEG as most programs write it: 4:2:0, optimised Huffman tables."""

    name, label, format = "jpeg", "JPEG", "JPEG"
    settings = (5, 10, 20, 35, 55, 75, 88, 95)
    range = (1, 100)  # 0 is the same as 1
    options: ClassVar[Mapping[str, Any]] = {"optimize": True, "subsampling": "4:2:0"}

    @classmethod
    def available(cls) -> bool:
        """Whether Pillow has its JPEG library, which it knows as jpg."""
        from PIL import features

        return bool(features.check("jpg"))

    def library(self) -> str:
        """libjpeg-turbo where Pillow was built with it."""
        from PIL import features

        turbo = features.version_feature("libjpeg_turbo")
        return f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"


class WebP(PillowPeer):
    """Lossy WebP with its slowest, best method; always 4:2:0."""

    name, label, format = "webp", "WebP (m6)", "WEBP"
    settings = (0, 5, 15, 35, 60, 80, 90, 97)
    options: ClassVar[Mapping[str, Any]] = {"method": 6}


class Avif4(PillowPeer):
    """AVIF at a slow speed, without chroma subsampling."""

    name, label, format = "avif-s4", "AVIF (speed 4)", "AVIF"
    settings = (3, 15, 28, 41, 55, 70, 84, 94)
    options: ClassVar[Mapping[str, Any]] = {"speed": 4, "subsampling": "4:4:4"}


class Avif6(Avif4):
    """AVIF at its default speed, without chroma subsampling."""

    name, label = "avif-s6", "AVIF (speed 6)"
    options: ClassVar[Mapping[str, Any]] = {"speed": 6, "subsampling": "4:4:4"}


class JpegXL(PillowPeer):
    """Lossy JPEG XL at its default effort, through pillow-jxl-plugin."""

    name, label, format = "jxl", "JPEG XL (e7)", "JXL"
    settings = (1, 12, 30, 50, 70, 84, 92, 96)
    options: ClassVar[Mapping[str, Any]] = {"effort": 7}

    def __init__(self) -> None:
        import pillow_jxl  # noqa: F401  (registers the format)

    @classmethod
    def available(cls) -> bool:
        """Whether the plugin is installed."""
        return importlib.util.find_spec("pillow_jxl") is not None

    def library(self) -> str:
        """The plugin's version: it brings its own libjxl."""
        return f"pillow-jxl-plugin {importlib.metadata.version('pillow-jxl-plugin')}"


class Aecodec:
    """This project's codec, its model loaded once.

    Args:
        model: name or path of the weights; None for the default.
        effort: 0 to 9.
    """

    name = OWN
    settings: Sequence[float] = (1, 15, 29, 43, 57, 71, 86, 100)
    range: tuple[float, float] = (1, 100)
    whole = False

    def __init__(self, model: str | None = None, effort: int = 0) -> None:
        from aecodec.codec import Codec

        self.label = f"aecodec, effort {effort}" if effort else "aecodec"
        self.effort = effort
        self.codec: Any = Codec() if model is None else Codec(model=model)

    @classmethod
    def available(cls) -> bool:
        """Always: it is what the benchmark is for."""
        return True

    @property
    def model_id(self) -> str:
        """Which weights these are."""
        return str(self.codec.model_id)

    def describe(self) -> str:
        """The model's identity, and the effort if there is any."""
        return f"model {self.model_id}" + (f", effort {self.effort}" if self.effort else "")

    def encode(self, image: RGB, setting: float) -> bytes:
        """The complete file."""
        return bytes(self.codec.encode(image, quality=float(setting), effort=self.effort))

    def decode(self, data: bytes) -> RGB:
        """The picture in the file."""
        return np.asarray(self.codec.decode(data))


PEERS: dict[str, type[PillowPeer] | type[Aecodec]] = {
    peer.name: peer for peer in (Aecodec, Jpeg, WebP, Avif4, Avif6, JpegXL)
}


def make_peers(
    names: Sequence[str] | None = None, *, model: str | None = None, effort: int = 0
) -> list[Peer]:
    """Ready peers, in the order of `PEERS`; by default all that are available.

    Raises:
        InputError: there is no codec of that name.
        MissingDependencyError: the package that has it is not installed.
        ModelError: the weights cannot be used.
    """
    wanted = [name for name, peer in PEERS.items() if peer.available()] if names is None else names
    for name in wanted:
        if name not in PEERS:
            raise InputError(f"no codec is called {name!r}; there are {', '.join(PEERS)}")
        if not PEERS[name].available():
            raise MissingDependencyError(
                f"codec {name!r} is not available here: pip install 'aecodec[bench]'"
            )
    makers: dict[str, Callable[[], Peer]] = {**PEERS, OWN: lambda: Aecodec(model, effort)}
    return [makers[name]() for name in PEERS if name in wanted]


def ladder(settings: Sequence[float], count: int | None = None) -> list[float]:
    """`count` whole-numbered settings over the same range, spaced as `settings` are.

    Raises:
        InputError: the count is less than 1.
    """
    if count is None:
        return list(settings)
    if count < 1:
        raise InputError(f"at least one quality has to be measured, not {count}")
    places = np.linspace(0, len(settings) - 1, count) if count > 1 else [len(settings) / 2]
    values = np.interp(places, np.arange(len(settings)), settings)
    return sorted({float(round(value)) for value in values.tolist()})
