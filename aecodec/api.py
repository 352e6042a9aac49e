"""The functions that `import aecodec` offers: the whole codec in one call each.

Nothing heavy is imported here at module level, so that `info` answers at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from aecodec.container import (
    ColourMode,
    HeaderInfo,
    Limits,
    Metadata,
    parse,
    parse_header,
    read_header,
)
from aecodec.errors import InputError, OutputError, UnknownModelError
from aecodec.rate import quality_from_index

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aecodec.codec import Codec

DEFAULT_MODEL = "photo"

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class FileInfo:
    """What the beginning of an `.aec` file says about it.

    Attributes:
        width: in pixels.
        height: in pixels.
        mode: "RGB" or "L" (gray), as Pillow calls them.
        bit_depth: bits a sample.
        quality: 1.0 to 100.0, as given to `encode`.
        model_id: identity of the weights, 16 hexadecimal digits.
        bytes: size of the whole file.
        bpp: bits a pixel, of the whole file.
        chunks: number of independently decodable squares.
        chunk_side: their side in pixels.
        effort: the encoder's effort, 0 to 9.
        precision: arithmetic of the encoder, "float32", "bfloat16", ...
        orientation: EXIF orientation to apply after decoding, 1 to 8.
        complete: False if the file ends before its last chunk does.
    """

    width: int
    height: int
    mode: str
    bit_depth: int
    quality: float
    model_id: str
    bytes: int
    bpp: float
    chunks: int
    chunk_side: int
    effort: int
    precision: str
    orientation: int
    complete: bool


def encode(
    image: Any,
    quality: float | None = None,
    *,
    target_size: int | None = None,
    target_bpp: float | None = None,
    target_psnr: float | None = None,
    metadata: tuple[Metadata, ...] = (),
    model: StrPath = DEFAULT_MODEL,
    device: str = "cpu",
    threads: int | None = None,
) -> bytes:
    """Code an image.

    Args:
        image: `uint8` of shape (H, W, 3) or (H, W), or a Pillow image; see
            `aecodec.pixels.as_array`.
        quality: 1 (small) to 100 (close to the original); fractions count. 75 if
            neither a quality nor a target is given.
        target_size: bytes of the whole file, met from below.
        target_bpp: the same as bits per pixel.
        target_psnr: dB over all samples, met from above.
        metadata: EXIF, ICC and XMP to store behind the picture.
        model: name of an installed model, or a weights file.
        device: "cpu", "cuda", ...
        threads: of the CPU; None leaves the choice to torch.

    Returns:
        The bytes of an `.aec` file.

    Raises:
        InputError: the image or the quality cannot be coded, or a target is out of reach.
        ModelError: the weights cannot be used.
    """
    return _codec(os.fspath(model), device, threads).encode(
        image,
        quality=quality,
        target_size=target_size,
        target_bpp=target_bpp,
        target_psnr=target_psnr,
        metadata=metadata,
    )


def decode(
    data: bytes,
    *,
    model: StrPath | None = None,
    limits: Limits | None = None,
    device: str = "cpu",
    threads: int | None = None,
    name: str | None = None,
) -> NDArray[np.uint8]:
    """Decode the bytes of an `.aec` file.

    Args:
        data: the whole file.
        model: None takes the installed model whose identity the file names; else
            the name of a model, or a weights file.
        limits: what to accept; None for the default ones.
        device: "cpu", "cuda", ...
        threads: of the CPU; None leaves the choice to torch.
        name: what to call the data in error messages, usually its file's name.

    Returns:
        `uint8` of shape (H, W, 3), or (H, W) for gray.

    Raises:
        FormatError: not an `.aec` file, or a damaged one.
        LimitError: more pixels than `limits` allow.
        ModelError: no installed model has that identity, or the weights cannot be used.
    """
    limits = limits or Limits()
    codec = _codec_of(data, model, limits, device, threads, name)
    return codec.decode(data, limits=limits, name=name)


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
    data, name = _load(src)
    limits = limits or Limits()
    _codec_of(data, model, limits, device, threads, name).verify(data, name=name)


def compress(
    src: StrPath,
    dst: StrPath,
    *,
    quality: float | None = None,
    target_size: int | None = None,
    target_bpp: float | None = None,
    target_psnr: float | None = None,
    strip: bool = False,
    overwrite: bool = False,
    model: StrPath = DEFAULT_MODEL,
    limits: Limits | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> FileInfo:
    """Code an image file as an `.aec` file, which is written whole or not at all.

    Args:
        src: any image file that Pillow reads; see `aecodec.pixels.read_image`.
        dst: the `.aec` file to write.
        quality, target_size, target_bpp, target_psnr: as for `encode`.
        model, device, threads: as for `encode`.
        strip: whether EXIF, ICC profile and XMP are left out.
        overwrite: whether an existing file may be replaced.
        limits: what sizes to accept; None for the default ones.

    Returns:
        What `info` says about the new file.

    Raises:
        InputError: the image cannot be read or coded.
        OutputError: the file exists, is the input itself, has the extension of
            another image format, or cannot be written.
        ModelError: the weights cannot be used.
    """
    from aecodec import pixels

    pixels.check_output(dst, overwrite=overwrite, source=src)
    if Path(dst).suffix.lower() in pixels.WRITERS:
        raise OutputError(f"{os.fspath(dst)}: an .aec file is not called that; use the ending .aec")
    image = pixels.read_image_file(src, limits=limits)
    codec = _codec(os.fspath(model), device, threads)
    with _naming(src):
        data = codec.encode(
            image.pixels,
            quality=quality,
            target_size=target_size,
            target_bpp=target_bpp,
            target_psnr=target_psnr,
            metadata=() if strip else image.metadata,
        )
    pixels.write_bytes(dst, data, overwrite=overwrite)
    return info(data)


def decompress(
    src: StrPath,
    dst: StrPath,
    *,
    strip: bool = False,
    overwrite: bool = False,
    model: StrPath | None = None,
    limits: Limits | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> FileInfo:
    """Decode an `.aec` file to an image file, which is written whole or not at all.

    Args:
        src: the `.aec` file.
        dst: the image file; its extension chooses the format, see
            `aecodec.pixels.WRITERS`.
        strip: whether metadata are left out.
        overwrite: whether an existing file may be replaced.
        model, limits, device, threads: as for `decode`.

    Returns:
        What `info` says about `src`.

    Raises:
        InputError: the file cannot be read, or is over the limits.
        FormatError: it is not an `.aec` file, or a damaged one.
        OutputError: the image file exists, has an unknown extension, or cannot be written.
        ModelError: as `decode`.
    """
    from aecodec import pixels

    pixels.writer_for(dst)
    pixels.check_output(dst, overwrite=overwrite, source=src)
    data, name = _load(src)
    image = decode(data, model=model, limits=limits, device=device, threads=threads, name=name)
    metadata = () if strip else parse(data, limits=limits or Limits()).metadata
    pixels.write_image(dst, image, metadata=metadata, overwrite=overwrite)
    return info(data, limits=limits)


def info(src: StrPath | bytes | BinaryIO, *, limits: Limits | None = None) -> FileInfo:
    """Read what the beginning of an `.aec` file says; nothing is decoded, torch is not loaded.

    Args:
        src: a file's name, its bytes (or the first of them), or a seekable binary
            file, read from where it stands and left there.
        limits: what to accept; None for the default ones.

    Raises:
        FormatError: not an `.aec` file, or its beginning is damaged.
        LimitError: it claims a size over the limits.
        InputError: the file cannot be read.
    """
    limits = limits or Limits()
    if isinstance(src, (bytes, bytearray, memoryview)):
        return _file_info(parse_header(src, limits=limits), len(src))
    if isinstance(src, (str, os.PathLike)):
        name = os.fspath(src)
        with _reading(name), open(src, "rb") as fp:
            found = read_header(fp, limits=limits, name=name)
            return _file_info(found, fp.seek(0, os.SEEK_END))
    start = src.tell()
    found = read_header(src, limits=limits)
    size = src.seek(0, os.SEEK_END) - start
    src.seek(start)
    return _file_info(found, size)


def register_pillow() -> None:
    """Make Pillow open and save `.aec` files; see `aecodec.plugins.pillow`."""
    from aecodec.plugins import pillow

    pillow.register()


def _file_info(found: HeaderInfo, size: int) -> FileInfo:
    head = found.header
    return FileInfo(
        width=head.width,
        height=head.height,
        mode="L" if head.colour is ColourMode.GRAY else "RGB",
        bit_depth=head.bit_depth,
        quality=quality_from_index(head.quality),
        model_id=head.model_id.hex(),
        bytes=size,
        bpp=8 * size / (head.width * head.height),
        chunks=len(found.entries),
        chunk_side=1 << head.chunk_log2,
        effort=head.effort,
        precision=head.precision.name.lower(),
        orientation=head.orientation,
        complete=size > found.payload_end,
    )


@lru_cache(maxsize=2)
def _codec(model: str, device: str, threads: int | None) -> Codec:
    """The codec for these settings; loading weights takes longer than coding a small image."""
    from aecodec.codec import Codec

    return Codec(model, device=device, threads=threads)


def _codec_of(
    data: bytes,
    model: StrPath | None,
    limits: Limits,
    device: str,
    threads: int | None,
    name: str | None,
) -> Codec:
    """The codec that a file asks for. A damaged file fails here, before torch is loaded."""
    wanted = parse(data, limits=limits, name=name).header.model_id.hex()
    if model is not None:
        return _codec(os.fspath(model), device, threads)
    from aecodec.model.weights import find_model

    try:
        path = find_model(wanted)
    except UnknownModelError as error:
        where = "" if name is None else f"{name}: "
        raise UnknownModelError(f"{where}made with another model: {error}") from error
    return _codec(os.fspath(path), device, threads)


def _load(src: StrPath | bytes | BinaryIO) -> tuple[bytes, str | None]:
    """A file's bytes, and its name if it has one."""
    if isinstance(src, (bytes, bytearray, memoryview)):
        return bytes(src), None
    if isinstance(src, (str, os.PathLike)):
        name = os.fspath(src)
        with _reading(name):
            return Path(src).read_bytes(), name
    return src.read(), getattr(src, "name", None)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Say of a failure to read which file it was."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{name}: {(error.strerror or str(error)).lower()}") from error


@contextmanager
def _naming(src: StrPath) -> Iterator[None]:
    """Put a file's name in front of what the codec says about its pixels."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{os.fspath(src)}: {error}") from error
