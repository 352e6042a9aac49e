"""aecodec: a learned image codec.

    >>> import aecodec
    >>> data = aecodec.encode(image, quality=75)        # an array, or a PIL image
    >>> image = aecodec.decode(data)
    >>> made = aecodec.compress("photo.png", "photo.aec", quality=60)
    >>> made.width, made.height, made.mode
    (528, 352, 'RGB')
    >>> made = aecodec.decompress("photo.aec", "photo.out.png")
    >>> aecodec.info("photo.aec").quality
    60.0

Importing the package is cheap: NumPy, Pillow and torch are loaded by the first call that needs
them, and `info` needs none of them. Every error raised on purpose is an `AecError`.

On Linux, imported before torch and without `OMP_WAIT_POLICY` or `GOMP_SPINCOUNT` in the
environment, it sets the latter.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from aecodec._version import __version__
from aecodec.errors import (
    AecError,
    ChecksumError,
    FormatError,
    InputError,
    LimitError,
    MissingDependencyError,
    ModelError,
    ModelMismatchError,
    OutputError,
    SignatureError,
    TrainingError,
    TruncatedError,
    UnknownModelError,
    UnsupportedImageError,
    VersionError,
    WeightsError,
    WorkerError,
)

# GNU's OpenMP, with which torch computes on Linux, reads this once, when it is loaded. Its
# threads spin for 300,000 rounds, some 10 ms, in case there is more to do: on a core that the
# entropy coder's thread needs. 20,000 are enough for the gaps between a transform's layers, and
# to decode one picture after another takes 5 to 7 % less time.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")

if TYPE_CHECKING:
    from aecodec.api import decode, encode, recover, register_pillow, verify
    from aecodec.codec import Codec
    from aecodec.container import Limits
    from aecodec.fileinfo import FileInfo, info
    from aecodec.files import compress, decompress

__all__ = [
    "AecError",
    "ChecksumError",
    "Codec",
    "FileInfo",
    "FormatError",
    "InputError",
    "LimitError",
    "Limits",
    "MissingDependencyError",
    "ModelError",
    "ModelMismatchError",
    "OutputError",
    "SignatureError",
    "TrainingError",
    "TruncatedError",
    "UnknownModelError",
    "UnsupportedImageError",
    "VersionError",
    "WeightsError",
    "WorkerError",
    "__version__",
    "compress",
    "decode",
    "decompress",
    "encode",
    "info",
    "recover",
    "register_pillow",
    "verify",
]

_LAZY = {
    "Codec": "aecodec.codec",
    "FileInfo": "aecodec.fileinfo",
    "Limits": "aecodec.container",
    "compress": "aecodec.files",
    "decode": "aecodec.api",
    "decompress": "aecodec.files",
    "encode": "aecodec.api",
    "info": "aecodec.fileinfo",
    "recover": "aecodec.api",
    "register_pillow": "aecodec.api",
    "verify": "aecodec.api",
}


def __getattr__(name: str) -> Any:
    """Load what is named in `_LAZY` on first use (PEP 562)."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
