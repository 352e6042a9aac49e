"""Training: configs, data, optimisers, the loop, and export of release weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aecodec.train.run import Result as Result
    from aecodec.train.run import train as train

__all__ = ["Result", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # torch is loaded when something trains, not for a config alone
        from aecodec.train import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
