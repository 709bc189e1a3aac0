"""Images as bytes: in which order a model hears them.

Legend: H rows of pixels, W columns, C channels, p pixels of the side of a patch.

Raster order is that of the array, row by row. In patch order (MEGABYTE, arXiv 2305.07185, sec. 4.3) the image is cut in
squares of p x p pixels, which follow each other row by row, each in raster order; so that p p C bytes in a row are
neighbours in the image. Both lose nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import UInt8

from everlong.core.config import check
from everlong.core.errors import DataError


def patch_scan(image_HWC: UInt8[np.ndarray, "h w c"], patch: int) -> bytes:
    """An image in patch order; in raster order where the patch is one pixel.

    Raises:
        ConfigError: the patch's side does not divide the image's.
    """
    _check(image_HWC.shape[0], image_HWC.shape[1], patch)
    return rearrange(image_HWC, "(h p) (w q) c -> h w p q c", p=patch, q=patch).tobytes()


def from_patch_scan(data: bytes, shape: tuple[int, int, int], patch: int) -> UInt8[np.ndarray, "h w c"]:
    """The image of a shape (H, W, C) that `patch_scan` has written.

    Raises:
        ConfigError: the patch's side does not divide the image's.
        DataError: there are too many bytes for it, or too few.
    """
    H, W, C = shape
    _check(H, W, patch)
    if len(data) != H * W * C:
        raise DataError("image", f"{len(data)} bytes", f"must be {H * W * C} for {H} x {W} pixels of {C} channels")
    patches = np.frombuffer(data, np.uint8).reshape(H // patch, W // patch, patch, patch, C)
    return rearrange(patches, "h w p q c -> (h p) (w q) c")


def tiles(image_HWC: UInt8[np.ndarray, "h w c"], side: int) -> Iterator[UInt8[np.ndarray, "s s c"]]:
    """The squares of an image, row by row; what is left at the right and below is dropped."""
    H, W, _ = image_HWC.shape
    for top in range(0, H - side + 1, side):
        for left in range(0, W - side + 1, side):
            yield image_HWC[top : top + side, left : left + side]


def read_image(path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image file, in red, green and blue.

    Raises:
        DataError: Pillow is not installed, or the file cannot be read.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("image", str(path), "needs Pillow: pip install everlong[report]") from error
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise DataError("image", str(path), f"cannot be read ({error})") from error


def _check(H: int, W: int, patch: int) -> None:
    fits = patch >= 1 and H % patch == 0 and W % patch == 0
    check(fits, "patch", patch, f"must divide both sides of the image, {H} x {W} pixels")
