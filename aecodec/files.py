"""From image files to `.aec` files and back: what the commands do, a file a call."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from aecodec.api import DEFAULT_MODEL, decode, read_all, ready_codec, recover
from aecodec.container import Limits, damage_behind, parse, salvaged
from aecodec.errors import FormatError, OutputError, naming
from aecodec.fileinfo import FileInfo, info, mode
from aecodec.output import StrPath, check_output, write_bytes
from aecodec.progress import Progress
from aecodec.rate import Aim

log = logging.getLogger("aecodec")


def compress(
    src: StrPath,
    dst: StrPath,
    *,
    quality: float | None = None,
    target_size: int | None = None,
    target_bpp: float | None = None,
    target_psnr: float | None = None,
    effort: int = 0,
    alpha_quality: float | None = None,
    max_error: int | None = None,
    strip: bool = False,
    preview: bool = False,
    overwrite: bool = False,
    model: StrPath = DEFAULT_MODEL,
    limits: Limits | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> FileInfo:
    """Code an image file as an `.aec` file, which is written whole or not at all.

    Args:
        src: any image file that Pillow reads; see `aecodec.pixels.read_image`.
        dst: the `.aec` file to write.
        quality, target_size, target_bpp, target_psnr: as for `encode`.
        effort, alpha_quality, max_error, preview: as for `encode`.
        model, device, threads, progress: as for `encode`.
        strip: whether EXIF, ICC profile and XMP are left out.
        overwrite: whether an existing file may be replaced.
        limits: what sizes to accept; None for the default ones.

    Returns:
        What `info` says about the new file.

    Raises:
        InputError: the image cannot be read or coded; see `encode`.
        MissingDependencyError: the image has 16-bit colour, whose packages are an extra.
        OutputError: the file exists, is the input itself, has the extension of
            another image format, or cannot be written.
        ModelError: the weights cannot be used.
    """
    from aecodec import pixels

    aim = Aim(quality, target_size, target_bpp, target_psnr, alpha_quality, max_error)
    check_output(dst, overwrite=True, source=src)
    ending = Path(dst).suffix.lower()
    if ending not in ("", ".aec") and ending in pixels.image_endings():  # those take a while
        name = os.fspath(dst)
        raise OutputError(f"{name}: an .aec file is not called that; several images need --out")
    check_output(dst, overwrite=overwrite)
    image = pixels.read_image_file(src, limits=limits)
    codec = ready_codec(model, device, threads)
    with naming(os.fspath(src)):
        metadata = () if strip else image.metadata
        data = codec.encode_to(
            aim,
            image.pixels,
            effort=effort,
            metadata=metadata,
            preview=preview,
            progress=progress,
        )
    write_bytes(dst, data, overwrite=overwrite)
    return info(data, limits=limits)


def decompress(
    src: StrPath,
    dst: StrPath,
    *,
    region: tuple[int, int, int, int] | None = None,
    preview: bool = False,
    strip: bool = False,
    overwrite: bool = False,
    model: StrPath | None = None,
    limits: Limits | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> FileInfo:
    """Decode an `.aec` file to an image file, which is written whole or not at all.

    Args:
        src: the `.aec` file.
        dst: the image file; its extension chooses the format, see
            `aecodec.pixels.WRITERS`.
        region, preview: as for `decode`.
        strip: whether metadata are left out.
        overwrite: whether an existing file may be replaced.
        model, limits, device, threads, progress: as for `decode`.

    Returns:
        What `info` says about `src`.

    Raises:
        InputError: the file cannot be read, is over the limits, or has no such region.
        MissingDependencyError: the image has 16-bit colour, whose packages are an extra.
        FormatError: it is not an `.aec` file, or a damaged one.
        OutputError: the image file exists, has an unknown extension, or cannot be written.
        ModelError: as `decode`.
    """
    from aecodec import pixels

    pixels.writer_for(dst)
    check_output(dst, overwrite=overwrite, source=src)
    data, name = read_all(src)
    file = parse(data, limits=limits or Limits(), name=name)
    pixels.writer_for(dst, mode=mode(file.header), depth=file.header.bit_depth)
    image = decode(
        file,
        region=region,
        preview=preview,
        model=model,
        device=device,
        threads=threads,
        name=name,
        progress=progress,
    )
    metadata = () if strip else file.metadata
    pixels.write_image(dst, image, metadata=metadata, overwrite=overwrite)
    return info(data, limits=limits)


@dataclass(frozen=True)
class Rescued:
    """What is left of a damaged file.

    Attributes:
        info: what `info` says about the file.
        lost: numbers of the lost chunks, ascending; see `aecodec.recover`.
        lost_metadata: whether the file is damaged behind its picture, so that metadata may
            be missing.
    """

    info: FileInfo
    lost: tuple[int, ...]
    lost_metadata: bool


def rescue(
    src: StrPath,
    dst: StrPath,
    *,
    strip: bool = False,
    overwrite: bool = False,
    model: StrPath | None = None,
    limits: Limits | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Rescued:
    """Decode what is left of a damaged `.aec` file to an image file.

    Of the metadata those are kept that stand in front of the first damage.

    Args:
        src, dst, strip, overwrite, model, limits, device, threads, progress: as for
            `decompress`.

    Returns:
        What is left. Pixels beside a lost chunk may be off, up to the reach of the
        synthesis transform.

    Raises:
        AecError: as `recover` and `decompress`.
    """
    from aecodec import pixels

    pixels.writer_for(dst)
    check_output(dst, overwrite=overwrite, source=src)
    data, name = read_all(src)
    limits = limits or Limits()
    file = salvaged(data, limits=limits, name=name)
    pixels.writer_for(dst, mode=mode(file.header), depth=file.header.bit_depth)
    image, lost = recover(
        file,
        model=model,
        device=device,
        threads=threads,
        name=name,
        progress=progress,
    )
    damage = damage_behind(data, limits=limits, name=name)
    if damage is not None:
        log.warning("%s; metadata from there on, if there were any, are lost", damage)
    elif not lost:
        try:
            parse(data, limits=limits, name=name)
        except FormatError as error:  # bytes after the end
            log.info("%s; the picture is whole", error)
    pixels.write_image(dst, image, metadata=() if strip else file.metadata, overwrite=overwrite)
    return Rescued(info(data, limits=limits), tuple(lost), damage is not None)
