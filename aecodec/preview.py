"""Small pictures that files carry for viewers: an `.aec` file of its own in the metadata."""

from __future__ import annotations

from aecodec.container import AecFile, parse
from aecodec.errors import FormatError
from aecodec.layout import DEFAULT_LIMITS, PREVIEW, PREVIEW_SCALE
from aecodec.metadata import first

PREVIEW_QUALITY = 50.0
"""Previews of photographs of 500 pixels a side come out at about 30 dB."""


def stored_preview(file: AecFile) -> AecFile | None:
    """The preview a file carries, if there is one.

    Raises:
        FormatError: it is damaged, or is not one eighth of the picture.
        LimitError: it is over the default limits.
    """
    data = first(file.metadata, PREVIEW)
    if data is None:
        return None
    try:
        preview = parse(data, limits=DEFAULT_LIMITS)
    except FormatError as error:
        raise FormatError(f"the stored preview is damaged: {error}") from error
    small, large = preview.header, file.header
    expected = (-(-large.width // PREVIEW_SCALE), -(-large.height // PREVIEW_SCALE))
    kind = (large.colour, large.bit_depth, large.planes, 1)
    same_kind = (small.colour, small.bit_depth, small.planes, small.orientation) == kind
    if (small.width, small.height) != expected or not same_kind:
        raise FormatError("the stored preview is not one of this picture")
    return preview
