"""What a benchmark ran on: machine and library versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from aecodec._version import __version__

PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "pillow-jxl-plugin",
    "bjontegaard",
    "pytorch-msssim",
)


def versions() -> dict[str, str | None]:
    """Versions of the packages that matter for the numbers; None where not installed."""
    found: dict[str, str | None] = {
        "aecodec": __version__,
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def machine() -> dict[str, str | int | None]:
    """Processor, the cores this process may use, its thread setting, operating system."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": cpu_model(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_model() -> str:
    """The processor's name as the system knows it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine() or "unknown"
