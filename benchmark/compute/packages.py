"""The installed packages that a number may depend on. Imports none of them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

NUMERIC = ("torch", "torchvision", "open_clip_torch", "timm", "pillow", "numpy", "scikit-learn")


def installed_version(package: str) -> str | None:
    """None where the package is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
