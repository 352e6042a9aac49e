"""The whole road: pixels -> latents -> integers -> bytes, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aecodec import alpha, decoder, depthcoding, depthplane, reading, tiles
from aecodec.container import (
    DEFAULT_LIMITS,
    AecFile,
    ColourMode,
    Header,
    Limits,
    Metadata,
    Precision,
    grid_shape,
    parse,
    salvaged,
)
from aecodec.depthcoding import DepthEncoding
from aecodec.encoder import Encoding
from aecodec.errors import FormatError, InputError, ModelMismatchError, naming, prefix
from aecodec.layout import ALPHA, DEPTH, NO_PLANES, PREVIEW, PREVIEW_SCALE, Rect
from aecodec.model.precision import undisturbed
from aecodec.model.quantiser import Symbols
from aecodec.model.vector_network import open_network
from aecodec.parallel import Workers
from aecodec.preview import PREVIEW_QUALITY, stored_preview
from aecodec.progress import Progress, Tally
from aecodec.rate import Aim
from aecodec.refine import SOFTNESS, check_effort
from aecodec.samples import Samples, as_array, bit_depth, colour, dtype, has_alpha, reduced, upright

_Source = Callable[[Workers, int], torch.Tensor | None]
"""Threads, and the number of a chunk -> its ŷ, None if it is lost."""

_PRECISIONS = {torch.float32: Precision.FLOAT32, torch.bfloat16: Precision.BFLOAT16}


class Codec:
    """Encodes and decodes with one model, loaded once.

    Args:
        model: name of an installed model, its identity, or a weights file.
        device: "cpu", "cuda", ...
        threads: how many CPU threads compute at a time, with the same bytes for any number;
            None leaves the choice to torch.
        precision: of the transforms: "auto", "float32", "float64" or "bfloat16".

    Raises:
        ModelError: the weights cannot be found or used.
        InputError: a bad device, thread count or precision.
    """

    def __init__(
        self,
        model: str | Path = "photo",
        *,
        device: str = "cpu",
        threads: int | None = None,
        precision: str = "auto",
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads must be at least 1, not {threads}")
        self.threads = threads
        with undisturbed(inference=False):  # effort takes gradients through it
            self.network = open_network(model, device=device, precision=precision)
        self._given = partial(Codec, model, device=device, threads=threads, precision=precision)

    def __reduce__(self) -> tuple[Callable[[], Codec], tuple[()]]:
        """Pickled as what it was made from: other processes load the weights anew."""
        return self._given, ()

    @property
    def model_id(self) -> str:
        """Identity of the weights, 16 hexadecimal digits."""
        return self.network.info.id

    def encode(
        self,
        image: Any,
        *,
        quality: float | None = None,
        target_size: int | None = None,
        target_bpp: float | None = None,
        target_psnr: float | None = None,
        effort: int = 0,
        alpha_quality: float | None = None,
        max_error: int | None = None,
        metadata: tuple[Metadata, ...] = (),
        preview: bool = False,
        progress: Progress | None = None,
    ) -> bytes:
        """Code an image, at a quality or at the quality that meets a target.

        At a quality, memory beyond the pixels is that of a few chunks. A target is met
        by trying qualities, for which the latents of the whole picture are kept: 5 bytes
        a pixel for the photo model; with effort and a PSNR 6 more for each quality tried.

        Args:
            image: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), `uint8` or `uint16`, or a
                Pillow image.
            quality, target_size, target_bpp, target_psnr: as for `aecodec.encode`.
            effort, alpha_quality, max_error, preview: as for `aecodec.encode`.
            metadata, progress: as for `aecodec.encode`.

        Returns:
            The bytes of an `.aec` file.

        Raises:
            InputError: the image or the quality cannot be coded, more than one of
                quality and targets is given, or a target is out of reach.
        """
        aim = Aim(quality, target_size, target_bpp, target_psnr, alpha_quality, max_error)
        return self.encode_to(
            aim, image, effort=effort, metadata=metadata, preview=preview, progress=progress
        )

    @undisturbed()
    def encode_to(
        self,
        aim: Aim,
        image: Any,
        *,
        effort: int = 0,
        metadata: tuple[Metadata, ...] = (),
        preview: bool = False,
        progress: Progress | None = None,
    ) -> bytes:
        """`encode`, with quality and targets as one value."""
        pixels = as_array(image)
        depth = depthcoding.is_depth(self.network, pixels, aim)
        header = Header(
            width=pixels.shape[1],
            height=pixels.shape[0],
            model_id=bytes.fromhex(self.model_id),
            quality=0,
            softness=SOFTNESS[check_effort(effort)],
            effort=effort,
            colour=ColourMode.GRAY if colour(pixels).ndim == 2 else ColourMode.RGB,
            bit_depth=bit_depth(pixels),
            planes=DEPTH if depth else ALPHA if has_alpha(pixels) else NO_PLANES,
            precision=_PRECISIONS.get(self.network.dtype, Precision.OTHER),
        )
        header = self.network.fitted(header, preview)
        metadata = tuple(one for one in metadata if one.type != PREVIEW)  # of another picture
        if preview:
            shown = depthcoding.smaller(pixels) if depth else reduced(pixels, PREVIEW_SCALE)
            small = self.encode_to(Aim(quality=PREVIEW_QUALITY), shown, effort=effort)
            metadata += (Metadata(PREVIEW, small),)
        with self._workers(header, exact=True) as workers:
            encoding = (DepthEncoding if depth else Encoding)(
                self.network,
                workers,
                pixels,
                header,
                aim=aim,
                metadata=metadata,
                effort=effort,
                progress=progress,
            )
            return encoding.meet()

    def encode_batch(self, images: Iterable[Any], **options: Any) -> list[bytes]:
        """Code several images, each on its own, with the same options.

        Args:
            images: `uint8` array of shape (N, H, W, 3), or any images that `encode` takes.
            options: as for `encode`.

        Returns:
            The bytes of N `.aec` files, the same as `encode` gives.

        Raises:
            InputError: as `encode`; says which image, counted from 0.
        """
        files = []
        for number, image in enumerate(images):
            try:
                files.append(self.encode(image, **options))
            except InputError as error:
                raise type(error)(f"image {number}: {error}") from error
        return files

    def decode_batch(self, files: Iterable[bytes | AecFile], **options: Any) -> list[Samples]:
        """Decode several files, with the same options.

        Args:
            files: as `encode_batch` gives them.
            options: as for `decode`.

        Returns:
            One array a file, as `decode` gives it; `numpy.stack` joins those of one shape.

        Raises:
            AecError: as `decode`; a damaged file is named by its number, counted from 0.
        """
        return [self.decode(f, name=f"file {i}", **options) for i, f in enumerate(files)]

    @undisturbed()
    def decode(
        self,
        data: bytes | AecFile,
        *,
        region: tuple[int, int, int, int] | None = None,
        preview: bool = False,
        limits: Limits | None = None,
        name: str | None = None,
        progress: Progress | None = None,
    ) -> Samples:
        """Decode an `.aec` file, or a part of it.

        Args:
            data: the whole file, or what `container.parse` made of it.
            region: (x, y, width, height) in pixels of the upright picture; only the
                chunks it needs are decoded. None for the whole picture.
            preview: whether to give the whole picture at one eighth of its size: the one
                that was stored, else one made from the latents.
            limits: what bytes to accept; None for the default ones.
            name: what to call the data in error messages.
            progress: called with pixels done and pixels to do; see `aecodec.progress`.

        Returns:
            (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), as was coded: `uint8` or `uint16`; a
            preview has ⌈H/8⌉ rows and ⌈W/8⌉ columns.

        Raises:
            FormatError: not an `.aec` file, or a damaged one.
            LimitError: larger than `limits` allow.
            InputError: a region that is empty or not inside the picture, or of a preview.
            ModelMismatchError: made with other weights than these.
        """
        file = self._parse(data, limits or DEFAULT_LIMITS, name)
        header = file.header
        if preview:
            if region is not None:
                raise InputError("a preview shows the whole picture, not a region")
            return upright(self._preview(file, name, progress), header.orientation)
        source = partial(reading.read_latents, self.network, file)
        with naming(name):
            wanted = tiles.whole(header) if region is None else tiles.inside(region, header)
            image = self._shown(file, source, wanted, progress)
        return upright(image, header.orientation)

    @undisturbed()
    def recover(
        self,
        data: bytes | AecFile,
        *,
        limits: Limits | None = None,
        name: str | None = None,
        progress: Progress | None = None,
    ) -> tuple[Samples, list[int]]:
        """Decode what is left of a damaged or shortened file; its header must be whole.

        Args:
            data: the file, or what `aecodec.container.salvaged` made of it.
            limits, name, progress: as for `decode`.

        Returns:
            The picture as from `decode`, lost chunks in gray (depth: 0), lost alpha opaque, and the
            numbers of the chunks that lost either, in raster order.

        Raises:
            FormatError: the header is damaged.
            LimitError, ModelMismatchError: as `decode`.
        """
        if isinstance(data, AecFile):
            file = data
        else:
            file = salvaged(data, limits=limits or DEFAULT_LIMITS, name=name)
        self._check_model(file.header, name)
        lost: list[int] = []

        def source(workers: Workers, number: int) -> torch.Tensor | None:
            if file.chunks[number].ok:
                try:
                    return reading.read_latents(self.network, file, workers, number)
                except FormatError:
                    pass  # damage that happens to keep the checksum
            lost.append(number)
            return None

        wanted = tiles.whole(file.header)
        image = self._shown(file, source, wanted, progress, lost)
        return upright(image, file.header.orientation), sorted(set(lost))

    @undisturbed()
    def symbols(self, data: bytes | AecFile, *, name: str | None = None) -> list[Symbols]:
        """The integers of every chunk, without running the synthesis transform.

        Raises:
            FormatError, LimitError, ModelMismatchError: as `decode`.
        """
        return list(self._integers(data, name))

    @undisturbed()
    def verify(self, data: bytes | AecFile, *, name: str | None = None) -> None:
        """Check that a file decodes to exactly the integers that were coded.

        Raises:
            FormatError, LimitError, ModelMismatchError: as `decode`.
        """
        file = self._parse(data, DEFAULT_LIMITS, name)
        for _ in self._integers(file, name):
            pass
        decode = depthplane.decode if file.header.planes == DEPTH else alpha.decoder(file.header)
        with naming(name):
            tiles.check_planes(file, decode)

    def _parse(self, data: bytes | AecFile, limits: Limits, name: str | None) -> AecFile:
        """Read a file, unless that is done, and see that it was made with these weights."""
        file = data if isinstance(data, AecFile) else parse(data, limits=limits, name=name)
        self._check_model(file.header, name)
        return file

    def _check_model(self, header: Header, name: str | None) -> None:
        made_with = header.model_id.hex()
        if made_with != self.model_id:
            raise ModelMismatchError(
                f"{prefix(name)}made with model {made_with}, "
                f"not with {self.network.info.name} {self.model_id}"
            )
        problem = self.network.misfit(header)
        if problem is not None:
            raise FormatError(problem, name=name)

    def _integers(self, data: bytes | AecFile, name: str | None) -> Iterator[Symbols]:
        file = self._parse(data, DEFAULT_LIMITS, name)
        read = partial(reading.read_symbols, self.network, file)
        with self._workers(file.header) as workers, naming(name):
            yield from workers.map(read, range(len(file.chunks)))

    def _preview(self, file: AecFile, name: str | None, progress: Progress | None) -> Samples:
        """One eighth of the picture, before its orientation is applied."""
        with naming(name):
            stored = stored_preview(file)
            if stored is not None:
                return self.decode(stored, name=name)
            source = partial(reading.read_latents, self.network, file)
            shown = tiles.whole(file.header)
            if file.header.planes == DEPTH:  # its latents may not be those of the picture
                return depthcoding.smaller(self._shown(file, source, shown, progress))
            image = self._picture(file.header, source, shown, progress, scale=PREVIEW_SCALE)
            if file.header.has_alpha:
                plane = np.empty((*tiles.size(shown), 1), image.dtype)
                alpha.paste(plane, file, shown)
                image[:, :, -1] = reduced(plane[:, :, 0], PREVIEW_SCALE)
        return image

    def _shown(
        self,
        file: AecFile,
        source: _Source,
        wanted: Rect,
        progress: Progress | None = None,
        lost: list[int] | None = None,
    ) -> Samples:
        """Samples of a rectangle, before the orientation is applied; see `alpha.paste`."""
        show = partial(self._picture, file.header, source, wanted, progress)
        if file.header.planes == DEPTH:
            return depthcoding.picture(file, wanted, show, lost)
        image = show()
        alpha.paste(image, file, wanted, lost)
        return image

    def _picture(
        self,
        header: Header,
        source: _Source,
        wanted: Rect,
        progress: Progress | None = None,
        *,
        scale: int = 1,
    ) -> Samples:
        """Samples of a rectangle, alpha not yet set, before the orientation is applied."""
        area = tiles.shrunk(wanted, scale)
        channels = (3 if header.colour is ColourMode.RGB else 1) + header.has_alpha
        shape = (*tiles.size(area), channels)[: 2 + (channels > 1)]
        image = np.empty(shape, dtype(header.bit_depth))
        shown, tally = colour(image), Tally(progress)
        tally.expect(tiles.area(area))
        with self._workers(header) as workers:
            latents = partial(source, workers)
            parts = decoder.parts(self.network, workers, header, latents, wanted, scale=scale)
            for rect, part in parts:
                shown[tiles.within(rect, area)] = part
                tally.did(tiles.area(rect))
        return image

    def _workers(self, header: Header, *, exact: bool = False) -> Workers:
        rows, cols = grid_shape(header)
        return Workers(self.threads, rows * cols, exact=exact)
