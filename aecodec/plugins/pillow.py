"""Pillow opens and saves `.aec` files once this module is imported.

    >>> import aecodec.plugins.pillow
    >>> Image.open("photo.png").save("photo.aec", quality=60)
    >>> Image.open("photo.aec").size       # reads the header and the metadata alone
    (528, 352)

Options of `save`: quality, target_size, target_bpp, target_psnr, effort, alpha_quality,
max_error, preview, model, exif, icc_profile, xmp. `Image.draft` and `Image.thumbnail` decode the
preview where it is large enough. imageio reads and writes through Pillow. Of 16 bits a sample
Pillow keeps those of gray (mode I;16); colour becomes 8 bits. `info["aec_quality"]` of an opened
file is its quality. With `PIL.ImageFile.LOAD_TRUNCATED_IMAGES` damaged chunks turn gray.
"""

from __future__ import annotations

import io
from typing import IO, Any, BinaryIO, cast

from PIL import Image, ImageFile

from aecodec import api, samples
from aecodec.container import Limits, is_aec, parse, read_header, read_metadata, salvaged
from aecodec.errors import AecError, FormatError
from aecodec.fileinfo import mode
from aecodec.layout import EXIF, ICC, PREVIEW_SCALE, XMP, Metadata
from aecodec.metadata import icc_profile, info, upright, xmp
from aecodec.rate import quality_from_index

FORMAT = "AEC"
MIME = "image/x-aec"
_OPTIONS = (
    *("target_size", "target_bpp", "target_psnr", "alpha_quality", "max_error"),
    *("effort", "preview"),
)


class AecImageFile(ImageFile.ImageFile):
    """An `.aec` file; decoded when its pixels are first asked for."""

    format = FORMAT
    format_description = "aecodec learned image"
    _decoded = _preview = False  # here for copies that were never opened: unpickled ones

    def _open(self) -> None:
        """Read header and metadata; Pillow then compares the size with its limit.

        Of damaged metadata `load` says so: what is in front of the damage is shown.
        """
        fp = cast(BinaryIO, self.fp)
        start = fp.tell()
        try:
            found = read_header(fp, limits=_pillow_decides())
        except AecError as error:
            raise SyntaxError(str(error)) from error  # "not mine", in Pillow's language
        self.info.update(info(read_metadata(fp, found, start)))
        header = found.header
        size = (header.width, header.height)
        self._size = size if header.orientation < 5 else size[::-1]
        name = mode(header)
        self._mode = "I;16" if (name, header.bit_depth) == ("L", 16) else name
        # not "quality", which other formats' `save` would take for theirs
        self.info["aec_quality"] = quality_from_index(header.quality)
        fp.seek(start)
        self.tile = [ImageFile._Tile("aec", (0, 0, *self._size), start, ())]

    def draft(
        self, mode: str | None, size: tuple[int, int] | None
    ) -> tuple[str, tuple[int, int, float, float]] | None:
        """Choose the preview, if it is large enough for the size; `thumbnail` asks for it.

        Returns:
            The mode and the box of the picture within the preview's pixels, or None if
            the picture will be decoded in full.
        """
        width, height = self._size
        if size is None or not self.tile or self._decoded or self._preview:
            return None
        if ImageFile.LOAD_TRUNCATED_IMAGES:  # of damage a preview might show nothing at all
            return None
        if min(width // max(size[0], 1), height // max(size[1], 1)) < PREVIEW_SCALE:
            return None
        self._preview = True
        self._size = (-(-width // PREVIEW_SCALE), -(-height // PREVIEW_SCALE))
        return self._mode, (0, 0, width / PREVIEW_SCALE, height / PREVIEW_SCALE)

    def load(self) -> Any:
        """Decode once, and hand the raw samples to Pillow.

        Raises:
            OSError: the file is damaged, or needs a model that is not installed.
            ValueError: it was closed before.
        """
        if self.tile and self.fp is None:
            raise ValueError("Operation on closed image")
        if self.tile and not self._decoded:
            fp = cast(BinaryIO, self.fp)
            fp.seek(self.tile[0].offset)
            data = fp.read()
            try:
                pixels = self._pixels(data)
            except AecError as error:
                raise OSError(str(error)) from error
            if self._exclusive_fp:
                fp.close()
            if self._mode != "I;16":
                pixels = samples.eight_bits(pixels)
            self.fp = io.BytesIO(pixels.astype(pixels.dtype.newbyteorder("<")).tobytes())
            self.tile = [ImageFile._Tile("raw", (0, 0, *self._size), 0, (self._mode, 0, 1))]
            self._decoded = True
        return super().load()

    def _pixels(self, data: bytes) -> samples.Samples:
        limits = _pillow_decides()
        try:
            return api.decode(parse(data, limits=limits, alone=False), preview=self._preview)
        except FormatError:
            if self._preview or not ImageFile.LOAD_TRUNCATED_IMAGES:
                raise
            return api.recover(salvaged(data, limits=limits))[0]

    def verify(self) -> None:
        """Compare the file with its checksums, without decoding it; it has to be opened again.

        Raises:
            OSError: it is damaged.
            ValueError: it was closed before.
        """
        if self.tile and not self._decoded:
            if self.fp is None:
                raise ValueError("Operation on closed image")
            fp = cast(BinaryIO, self.fp)
            fp.seek(self.tile[0].offset)
            try:
                parse(fp.read(), limits=_pillow_decides(), alone=False)
            except AecError as error:
                raise OSError(str(error)) from error
        super().verify()

    def load_seek(self, pos: int) -> None:
        """Nothing: samples lie in memory. Without this method Pillow would map the file instead."""


def _pillow_decides() -> Limits:
    """No limit of pixels: Pillow checks for decompression bombs itself."""
    return Limits(max_pixels=2**62)


def _accept(prefix: bytes) -> bool:
    return is_aec(prefix)


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Write one image; the options come as Pillow keeps them, in `encoderinfo`.

    Raises:
        OSError: the image or an option cannot be coded.
    """
    options = dict(image.encoderinfo)
    chosen = {key: options[key] for key in _OPTIONS if key in options}
    quality = options.get("quality", -1)
    if quality not in (-1, "keep"):
        chosen["quality"] = quality
    found = {"icc_profile": icc_profile(image), "xmp": xmp(image)}
    items = []
    for kind, key in ((EXIF, "exif"), (ICC, "icc_profile"), (XMP, "xmp")):
        data = options.get(key, found.get(key))
        if isinstance(data, Image.Exif):
            data = data.tobytes()
        if isinstance(data, str):
            data = data.encode()
        if not isinstance(data, bytes | bytearray | memoryview | None):
            raise OSError(f"{key} must be bytes, not {type(data).__name__}")
        if data:
            items.append(Metadata(kind, bytes(data).removeprefix(b"Exif\x00\x00")))
    turn, metadata = upright(items)  # as in every .aec file, pixels stand upright
    try:
        pixels = samples.upright(samples.as_array(image), turn)
        model = options.get("model") or api.DEFAULT_MODEL
        fp.write(api.encode(pixels, model=model, metadata=metadata, **chosen))
    except AecError as error:
        raise OSError(str(error)) from error


def register() -> None:
    """Make Pillow know the format; importing this module has done so already."""
    Image.register_open(FORMAT, AecImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, ".aec")
    Image.register_mime(FORMAT, MIME)


register()
