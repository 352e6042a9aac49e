"""The functions of `import aecodec` that code bytes: the whole codec in one call each.

Nothing heavy is imported here at module level, so that `info` answers at once.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from aecodec.container import AecFile, Header, Limits, Metadata, parse, salvaged
from aecodec.errors import UnknownModelError, prefix
from aecodec.fileinfo import read_errors, stream_name
from aecodec.output import StrPath
from aecodec.progress import Progress
from aecodec.rate import Aim

if TYPE_CHECKING:
    from aecodec.codec import Codec
    from aecodec.samples import Samples

DEFAULT_MODEL = "photo"


def encode(
    image: Any,
    quality: float | None = None,
    *,
    target_size: int | None = None,
    target_bpp: float | None = None,
    target_psnr: float | None = None,
    effort: int = 0,
    alpha_quality: float | None = None,
    max_error: int | None = None,
    metadata: tuple[Metadata, ...] = (),
    preview: bool = False,
    model: StrPath = DEFAULT_MODEL,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Code an image.

    Args:
        image: `uint8` or `uint16` of shape (H, W), (H, W, 2), (H, W, 3) or (H, W, 4),
            gray or RGB with or without alpha, or a Pillow image; see `aecodec.samples`.
        quality: 1 (small) to 100 (close to the original); fractions count. 75 if
            neither a quality nor a target is given.
        target_size: bytes of the whole file, met from below.
        target_bpp: the same as bits per pixel.
        target_psnr: dB over all colour samples that can be seen, met from above.
        effort: 0 (one pass) to 9: time spent on a smaller file; see `aecodec.refine`.
        alpha_quality: 1 (opaque or transparent) to 99 (half of the levels); alpha is
            coded without loss at 100 and None.
        max_error: of a depth map, in mm: what no reading is off by, on any machine. If no
            quality is given, the smallest file is looked for; then 0 is lossless.
        metadata: EXIF, ICC and XMP to store behind the picture.
        preview: whether to store a small picture, too, for `decode(preview=True)`; at common
            qualities it takes some percent of the file.
        model: name of an installed model, or a weights file.
        device: "cpu", "cuda", ...
        threads: how many CPU threads compute; None leaves the choice to torch. The
            bytes are the same for any number.
        progress: called with pixels done and pixels to do; see `aecodec.progress`.

    Returns:
        The bytes of an `.aec` file.

    Raises:
        InputError: the image or the quality cannot be coded, a target is out of reach, or
            there is no such device.
        ModelError: the weights cannot be used.
        MissingDependencyError: alpha needs Pillow with WebP.
    """
    aim = Aim(quality, target_size, target_bpp, target_psnr, alpha_quality, max_error)
    codec = ready_codec(model, device, threads)
    return codec.encode_to(
        aim, image, effort=effort, metadata=metadata, preview=preview, progress=progress
    )


def decode(
    data: bytes | AecFile,
    *,
    region: tuple[int, int, int, int] | None = None,
    preview: bool = False,
    model: StrPath | None = None,
    limits: Limits | None = None,
    device: str = "cpu",
    threads: int | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> Samples:
    """Decode the bytes of an `.aec` file.

    Args:
        data: the whole file, or what `aecodec.container.parse` made of it.
        region: (x, y, width, height) in pixels: only that part, at the cost of the
            chunks it lies in.
        preview: whether to give the whole picture at one eighth of its size; quickest for
            files that were made with one, see `encode`.
        model: None takes the installed model whose identity the file names; else
            the name of a model, or a weights file.
        limits: what bytes to accept; None for the default ones.
        device: "cpu", "cuda", ...
        threads: of the CPU; None leaves the choice to torch.
        name: what to call the data in error messages, usually its file's name.
        progress: as for `encode`.

    Returns:
        (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), as was coded: `uint8` or `uint16`; a
        preview has ⌈H/8⌉ rows and ⌈W/8⌉ columns.

    Raises:
        FormatError: not an `.aec` file, or a damaged one.
        LimitError: more pixels than `limits` allow.
        InputError: a region that is not inside the picture, or together with a preview; no
            such device.
        ModelError: no installed model has that identity, or the weights cannot be used.
    """
    file = data if isinstance(data, AecFile) else _parse(data, limits, name)
    codec = _codec_of(file.header, model, device, threads, name)
    return codec.decode(file, region=region, preview=preview, name=name, progress=progress)


def recover(
    data: bytes | AecFile,
    *,
    model: StrPath | None = None,
    limits: Limits | None = None,
    device: str = "cpu",
    threads: int | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> tuple[Samples, list[int]]:
    """Decode what is left of a damaged file whose header is whole.

    Args:
        data: the file, or the beginning of it, or what `aecodec.container.salvaged` made of it.
        model, limits, device, threads, name, progress: as for `decode`.

    Returns:
        The picture, lost chunks in gray, lost alpha opaque, and the numbers of the
        chunks that lost either.

    Raises:
        FormatError: not an `.aec` file, or its header is damaged.
        LimitError, ModelError: as `decode`.
    """
    if isinstance(data, AecFile):
        file = data
    else:
        file = salvaged(data, limits=limits or Limits(), name=name)
    codec = _codec_of(file.header, model, device, threads, name)
    return codec.recover(file, name=name, progress=progress)


def verify(
    src: StrPath | bytes | BinaryIO,
    *,
    model: StrPath | None = None,
    limits: Limits | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Check that an `.aec` file is whole and decodes to exactly the integers that were coded.

    Args:
        src: a file's name, its bytes, or a binary file read to its end.
        model, limits, device, threads: as for `decode`.

    Raises:
        FormatError: it does not.
        InputError, ModelError: as `decode` and `decompress`.
    """
    data, name = read_all(src)
    file = _parse(data, limits, name)
    _codec_of(file.header, model, device, threads, name).verify(file, name=name)


def register_pillow() -> None:
    """Make Pillow open and save `.aec` files; see `aecodec.plugins.pillow`."""
    from aecodec.plugins import pillow

    pillow.register()


def ready_codec(model: StrPath, device: str, threads: int | None) -> Codec:
    """The codec for these settings, whether the model is given by name, identity or path."""
    from aecodec.model.weights import find_model

    path = find_model(model).resolve()
    stat = path.stat()
    return _loaded(path, (stat.st_ino, stat.st_mtime_ns, stat.st_size), device, threads)


@lru_cache(maxsize=2)
def _loaded(path: Path, _: tuple[int, ...], device: str, threads: int | None) -> Codec:
    """Loading weights takes longer than coding a small image."""
    from aecodec.codec import Codec

    return Codec(path, device=device, threads=threads)


def _codec_of(
    header: Header,
    model: StrPath | None,
    device: str,
    threads: int | None,
    name: str | None,
) -> Codec:
    """The codec that a file asks for. Reading its header fails before torch is loaded."""
    if model is not None:
        return ready_codec(model, device, threads)
    try:
        return ready_codec(header.model_id.hex(), device, threads)
    except UnknownModelError as error:
        raise UnknownModelError(f"{prefix(name)}made with another model: {error}") from error


def _parse(data: bytes, limits: Limits | None, name: str | None) -> AecFile:
    return parse(data, limits=limits or Limits(), name=name)


def read_all(src: StrPath | bytes | BinaryIO) -> tuple[bytes, str | None]:
    """A file's bytes, and its name if it has one."""
    if isinstance(src, (bytes, bytearray, memoryview)):
        return bytes(src), None
    if isinstance(src, (str, os.PathLike)):
        name = os.fspath(src)
        with read_errors(name):
            return Path(src).read_bytes(), name
    named = stream_name(src)
    with read_errors(named):
        return src.read(), named
